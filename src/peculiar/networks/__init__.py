"""Networks that predict distances from images."""
