"""Run records become tables, figures and a page. Cannot change a number."""
