"""Shared by all packages: errors, parameters, photometry, image sets, files, provenance."""
