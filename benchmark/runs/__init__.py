"""Which runs there are, where they execute, and how their records are stored. Cannot change a number."""
