"""Tidy tables become tables, sentences and a page for people."""
