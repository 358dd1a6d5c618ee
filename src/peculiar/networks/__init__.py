"""Networks from images to distances, and how they are run."""
