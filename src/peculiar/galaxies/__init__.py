"""Galaxies from files and services: one reader for each format, one function for each source."""
