"""The distribution of a dataset's distances, on the grid of p(D | image)."""

import numpy as np

from peculiar.core.dataset import Observed
from peculiar.core.survey import Normal, Uniform, Volume
from peculiar.networks.heads import Prior
from peculiar.training.predictions import column_mpc
from peculiar.velocity.posterior import cells_mpc

CELL_MPC = 0.8  # greatest cell of the grid of p(D | image): a seventh of sigma_v / H0


def distance_prior(observed: Observed, label: str) -> Prior:
    """Compute the distribution of a dataset's distances on a grid, the prior of p(D | image).

    The distribution of measured galaxies is unknown. Their prior is uniform, from 3 sigma_v / H0
    below the least D_z of the training split to as much above the greatest.

    Parameters
    ----------
    observed : Observed
        Dataset, whose survey has the distribution of distances.
    label : {"D", "D_z"}
        Label that the network is trained on.

    Returns
    -------
    Prior
        Grid (G,), Mpc, with cells of at most `CELL_MPC`, probabilities (G,), and the error of the
        label, Mpc.
    """
    survey = observed.survey
    law, sigma_z = survey.distances, survey.sigma_z_mpc
    match law:
        case Uniform() | Volume():
            ends = law.min_mpc, law.max_mpc
        case Normal():
            ends = law.min_mpc, law.mean_mpc + 5 * law.sigma_mpc
        case _:
            D_z = column_mpc(observed, "distance_z_mpc")[observed.rows("train")]
            ends = max(0.0, D_z.min() - 3 * sigma_z), D_z.max() + 3 * sigma_z
    grid = cells_mpc(ends, CELL_MPC)
    p = np.ones(len(grid))
    if isinstance(law, Normal):
        p = np.exp(-0.5 * ((grid - law.mean_mpc) / law.sigma_mpc) ** 2)
    elif isinstance(law, Volume):
        p = grid**2
    label_error = sigma_z if label == "D_z" else float(grid[1] - grid[0])
    return Prior(grid, p / p.sum(), label_error)
