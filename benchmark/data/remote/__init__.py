"""Where datasets' files come from: addresses, downloads, checks."""
