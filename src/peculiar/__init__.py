"""Distances and peculiar velocities of nearby galaxies from their images."""

import os

__version__ = "0.1.0"

# OpenMP threads that spin while they wait make training up to 5x slower where another process
# wants the same cores (docs/decisions/0007); read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
