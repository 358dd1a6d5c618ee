"""Small networks."""

import numpy as np

from peculiar.networks.heads import build
from peculiar.networks.likelihood import Prior
from peculiar.networks.params import NetworkSection

LAYER = {"filters": 3, "kernel": 3, "stride": 2}


def network_section(family="cnn", **changes):
    """Parameters of a network of one convolution (if it has layers), trained for two epochs."""
    values = {
        "family": family,
        "label": "D_z",
        "normalise": True,
        "head": "point",
        "layers": (LAYER,) if family in ("cnn", "pyramid") else (),
        "hidden": 5 if family in ("pyramid", "starlet", "apertures") else 0,
        "dropout": 0,
        "batch_norm": False,
        "crop": None,
        "softening_mag_arcsec2": 24,
        "fresh": False,
        "fresh_mpc": None,
        "views": None,
        "kernels": False,
        "images_per_galaxy": None,
        "loss": "absolute",
        "rounds": 1,
        "augment": False,
        "average_turns": False,
        "members": 1,
        "batch_size": 4,
        "precision": "float32",
        "schedule": "constant",
        "learning_rate": 1e-3,
        "weight_decay": 0,
        "ema": 0,
        "patience": None,
        "epochs": 2,
        "calibration_folds": None,
    }
    return NetworkSection(**(values | changes))


def small(**changes):
    values = {"layers": ({"filters": 3, "kernel": 5, "stride": 3},), "batch_norm": True}
    prior = Prior(np.linspace(50.5, 99.5, 50), np.full(50, 1 / 50), 400 / 70)
    spec = network_section(**(values | changes))
    return build(spec, "gr", 16, target=(50.0, 50.0), prior=prior, seed=1, members=spec.members)
