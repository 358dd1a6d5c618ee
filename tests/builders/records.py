"""Runs and networks as a training leaves them."""

import numpy as np
import torch

from builders.networks import network_section
from builders.surveys import make_survey
from peculiar.core.survey import Survey
from peculiar.runs import record

SPEC = network_section(batch_norm=True)


GRID = tuple(np.linspace(50 + 1 / 3, 100 - 1 / 3, 75).tolist())


BINNED = {"spec": SPEC.model_copy(update={"head": "binned"}), "grid_mpc": GRID, "target_mpc": None}


ENSEMBLE = {
    "spec": SPEC.model_copy(
        update={"family": "pyramid", "head": "gaussian", "hidden": 5, "crop": 6, "members": 2}
    ),
    "grid_mpc": GRID,
    "target_mpc": None,
}


HISTORY = [
    {"epoch": 1, "train_l2_mpc": 9.25, "validation_l2_mpc": 10.5},
    {"epoch": 2, "train_l2_mpc": 8.0, "validation_l2_mpc": float("nan")},
]


SAID = {"galaxy": np.array([7, 7, 9]), "D_p_mpc": np.array([60.0, np.nan, 1 / 3])}


def make_run(**changes):
    """A run; keywords may also change fields of its survey."""
    of_survey = {key: changes.pop(key) for key in Survey.model_fields if key in changes}
    values = {
        "survey": make_survey(**({"source": "stand-in"} | of_survey)),
        "network": "cnn2",
        "spec": SPEC,
        "seed": 3,
        "target_mpc": (50.125, 49.5),
        "grid_mpc": None,
        "images": {"train": 160, "validation": 80},
        "data": {"data/observe/uniform": "0a1b.dir"},
        "code": {"git_commit": "c0de", "git_dirty": "false", "sha256": "5" * 64},
        "run_id": "f00d",
        "model_uri": "models:/m-1",
        "model_sha256": "a" * 64,
        "seconds": 1.5,
        "sigma_D_mpc": 1 / 3,
        "spread_dz_mpc": 15.0,
        "zero_rms_kms": 401.5,
        "validation": {"l2_d_mpc": 0.1, "velocity_slope": 1.0},
    }
    return record.Run(**(values | changes))


def trained_network(run):
    """A network whose weights, prior, sharpness and running means are not the initial ones."""
    network = run.fresh_network()
    network(torch.rand(4, 2, 8, 8) * 1e5)
    with torch.no_grad():
        for number, weight in enumerate(network.parameters()):
            weight += number + 1
    if run.grid_mpc is not None:
        network.head.log_prior += torch.linspace(0, 2, len(run.grid_mpc))
        network.head.label_error_mpc.fill_(400 / 70)
        network.head.sharpness.fill_(0.625)
    return network.eval()
