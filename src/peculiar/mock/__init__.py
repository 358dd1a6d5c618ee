"""Mock observations of simulated galaxies: distances, resampling, sky, seeing, noise."""
