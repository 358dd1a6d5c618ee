"""A user's images in, distances and velocities out."""
