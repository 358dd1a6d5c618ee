"""Distances and peculiar velocities of nearby galaxies from their images."""

import os
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# OpenMP threads that spin while they wait make training up to 5x slower where another process
# wants the same cores (docs/decisions/0007); read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def __getattr__(name: str) -> Any:
    """What notebooks import, once it is asked for: torch and MLflow take seconds to import."""
    if name in ("load_model", "predict_velocity"):
        return getattr(import_module("peculiar.predict.notebook"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
