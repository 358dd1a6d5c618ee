"""Download Illustris images over its API and keep the wanted bands."""
