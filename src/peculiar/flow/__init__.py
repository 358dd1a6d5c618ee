"""The mean motion of many galaxies, from their distances and redshifts."""
