"""Bulk flows of mock catalogues."""
