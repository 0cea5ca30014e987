"""Tidy tables become tables and sentences for people."""
