"""Adversarial ascent as pure functions: on spectra (SADA), on mixing parameters (AugMax), on pixels (GUD, M-ADA)."""
