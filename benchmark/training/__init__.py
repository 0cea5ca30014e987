"""One run in this process: from a network at step 0 to the parts of its record."""
