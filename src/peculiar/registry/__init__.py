"""Registered models: selection, aliases, exchange, loading."""
