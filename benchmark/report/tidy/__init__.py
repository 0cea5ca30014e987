"""Run records become tidy tables for programs: one row for each observation, and their statistics."""
