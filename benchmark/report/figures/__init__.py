"""Tidy tables become figures: PNG and PDF files, equal to the byte when drawn again."""
