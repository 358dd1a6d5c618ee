"""Distances and peculiar velocities of nearby galaxies from their images."""

import os
from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = [
    "Champion",
    "InputError",
    "PeculiarError",
    "__version__",
    "load_model",
    "predict_velocity",
]

# OpenMP threads that spin while they wait make training up to 5x slower where another process
# wants the same cores (docs/decisions/0007); read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# MLflow reads this when it is first imported
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

_HOMES = {
    "Champion": "peculiar.registry.champion",
    "InputError": "peculiar.core.errors",
    "PeculiarError": "peculiar.core.errors",
    "load_model": "peculiar.predict.notebook",
    "predict_velocity": "peculiar.predict.notebook",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: torch and MLflow take seconds to import."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
