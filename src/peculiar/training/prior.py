"""The distribution of a dataset's distances, on the grid of p(D | image)."""

import numpy as np

from peculiar.core.dataset import Observed
from peculiar.networks.heads import Prior
from peculiar.training.predictions import column_mpc
from peculiar.velocity.posterior import cells_mpc

CELL_MPC = 0.8  # at most, of the grid for p(D | image): a seventh of sigma_v / H0


def distance_prior(observed: Observed, label: str) -> Prior:
    """The distribution of a dataset's distances on a grid, for heads that give distributions.

    Of measured galaxies, whose distribution nobody knows, all distances from below the least D_z
    of the training split to beyond the greatest are as probable.

    Parameters
    ----------
    observed : Observed
        Its meta has the law of distances.
    label : {"D", "D_z"}
        Label that the network learns from.

    Returns
    -------
    Prior
    """
    meta = observed.table.meta
    law, sigma_z = meta["distances"], meta["sigma_v_kms"] / meta["H0_kms_mpc"]
    if meta["distribution"] in ("uniform", "volume"):
        ends = law["min_mpc"], law["max_mpc"]
    elif meta["distribution"] == "normal":
        ends = law["min_mpc"], law["mean_mpc"] + 5 * law["sigma_mpc"]
    else:
        D_z = column_mpc(observed, "distance_z_mpc")[observed.rows("train")]
        ends = max(0.0, D_z.min() - 3 * sigma_z), D_z.max() + 3 * sigma_z
    grid = cells_mpc(ends, CELL_MPC)
    p = np.ones(len(grid))
    if meta["distribution"] == "normal":
        p = np.exp(-0.5 * ((grid - law["mean_mpc"]) / law["sigma_mpc"]) ** 2)
    elif meta["distribution"] == "volume":
        p = grid**2
    label_error = sigma_z if label == "D_z" else float(grid[1] - grid[0])
    return Prior(grid, p / p.sum(), label_error)
