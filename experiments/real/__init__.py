"""Networks on genuine galaxies."""
