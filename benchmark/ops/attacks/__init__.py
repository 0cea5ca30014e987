"""Adversarial ascent as pure functions: on spectra (SADA, AAUA), mixing (AugMax), pixels (GUD and those after it)."""
