"""What every room needs: errors, parameters, photometry, image sets, files, provenance."""
