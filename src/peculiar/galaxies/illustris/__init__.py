"""Illustris' images over its API: download, retry, keep the wanted bands."""
