"""From distances to peculiar velocities: the Hubble law, posteriors, metrics."""
