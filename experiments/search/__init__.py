"""The search under faults, and on SLURM."""
