"""Small networks."""

from types import SimpleNamespace

import numpy as np

from peculiar.networks.heads import Prior, build


def small(**changes):
    values = {
        "family": "cnn",
        "layers": [SimpleNamespace(filters=3, kernel=5, stride=3)],
        "hidden": 0,
        "dropout": 0,
        "batch_norm": True,
        "head": "point",
        "crop": None,
        "average_turns": False,
        "loss": "absolute",
        "precision": "float32",
        "softening_mag_arcsec2": 24.0,
    }
    prior = Prior(np.linspace(50.5, 99.5, 50), np.full(50, 1 / 50), 400 / 70)
    members = changes.pop("members", 1)
    spec = SimpleNamespace(**(values | changes))
    return build(spec, "gr", 16, target=(50.0, 50.0), prior=prior, seed=1, members=members)
