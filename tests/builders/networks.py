"""Small networks."""

import numpy as np

from builders.surveys import make_survey
from peculiar.networks.heads import build
from peculiar.networks.likelihood import Prior
from peculiar.networks.params import NetworkSection
from peculiar.runs.blueprint import Blueprint

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


SMALL = {"layers": ({"filters": 3, "kernel": 5, "stride": 3},), "batch_norm": True}
GRID = np.linspace(50.5, 99.5, 50)


def small(**changes):
    prior = Prior(GRID, np.full(50, 1 / 50), 400 / 70)
    spec = network_section(**(SMALL | changes))
    return build(spec, "gr", 16, target=(50.0, 50.0), prior=prior, seed=1, members=spec.members)


def small_blueprint(**changes):
    """The blueprint of `small`; keywords may also change its own fields."""
    own = {key: changes.pop(key) for key in Blueprint.model_fields if key in changes}
    spec = network_section(**(SMALL | changes))
    point = spec.head == "point"
    values = {
        "survey": make_survey(bands=("g", "r"), pixels=16),
        "spec": spec,
        "seed": 1,
        "target_mpc": (50.0, 50.0) if point else None,
        "grid_mpc": None if point else tuple(GRID.tolist()),
        "sigma_D_mpc": 5.0,
        "validity": None,
    }
    return Blueprint(**(values | own))
