"""Networks on real galaxies."""
