"""The distribution of a dataset's distances, on the grid of p(D | image).

The grid reaches beyond the training distances, by what a redshift and an image may be wrong, so
that p(D | image) of a galaxy outside them can say so. Which prior multiplies the likelihood:

====================  =====================================================================
training              law of the training distances: `fresh_mpc`, or that of the dataset
calibration           law of the dataset, from which the labels of validation come
validate, evaluate    law of the dataset (`law_in_force`), so that tables mean what they say
export, registry      flat on the whole grid: who predicts chooses (`peculiar.predict.priors`)
====================  =====================================================================
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil

import astropy.units as u
import numpy as np
from numpy.typing import NDArray

from peculiar.core.dataset import Observed
from peculiar.core.errors import InputError
from peculiar.core.survey import Simulated, Uniform
from peculiar.mock.distances import distance_density, support_mpc
from peculiar.networks.heads import DistanceNetwork, Network
from peculiar.networks.likelihood import Prior
from peculiar.velocity.grid import cells_mpc, share_between

Array = NDArray[np.float64]
CELL_MPC = 0.8  # greatest cell of the grid of p(D | image): a seventh of sigma_v / H0
SIGMA_D_MPC = 10.0  # guess of an image's error, when the grid is laid before it is known
REACH = 3  # deviations of redshift and image by which the grid exceeds the training distances


def distance_prior(
    observed: Observed,
    label: str,
    limits_mpc: tuple[float, float] | None = None,
    *,
    beyond: bool = True,
) -> Prior:
    """Compute the law of the training distances on a grid, the prior of p(D | image) in training.

    Parameters
    ----------
    observed : Observed
        Dataset, whose survey has the distribution of distances.
    label : {"D", "D_z"}
        Label that the network is trained on.
    limits_mpc : tuple of float, optional
        Limits of uniform fresh distances, Mpc, which replace the dataset's law.
    beyond : bool
        Whether the grid exceeds the training distances, by at least
        `REACH` (sigma_v / H0 + `SIGMA_D_MPC`) or down to one cell above zero.

    Returns
    -------
    Prior
        Grid (G,), Mpc, with cells of at most `CELL_MPC`, an edge at each limit of the law;
        probabilities (G,), zero outside the law; and the error of the label, Mpc.
    """
    law = _law(observed, limits_mpc)
    low, high = _support_mpc(observed, law)
    grid = cells_mpc((low, high), CELL_MPC)
    cell = grid[1] - grid[0]
    if beyond:
        cells = ceil(REACH * (observed.survey.sigma_z_mpc + SIGMA_D_MPC) / cell)
        below = max(min(cells, ceil(low / cell) - 1), 0)
        grid = grid[0] + cell * np.arange(-below, len(grid) + cells)
    label_error = observed.survey.sigma_z_mpc if label == "D_z" else float(cell)
    return Prior(grid, _on_grid(law, (low, high), grid), label_error)


def law_on_grid(observed: Observed, grid_mpc: Array) -> Array:
    """Compute the law of a dataset's distances on a grid.

    The distribution of measured galaxies is unknown. Theirs is uniform, from 3 sigma_v / H0
    below the least D_z of the training split to as much above the greatest.

    Parameters
    ----------
    observed : Observed
        Dataset.
    grid_mpc : ndarray, (G,)
        Equally spaced distances, Mpc.

    Returns
    -------
    ndarray, (G,)
        Probabilities, which sum to one.

    Raises
    ------
    InputError
        When no distance of the dataset is on the grid.
    """
    law = _law(observed, None)
    p = _on_grid(law, _support_mpc(observed, law), grid_mpc)
    if not np.isfinite(p).all():
        raise InputError(
            f"dataset {observed.survey.dataset} has no distance from {grid_mpc[0]:.0f} to "
            f"{grid_mpc[-1]:.0f} Mpc, which the network knows: take one that has"
        )
    return p


@contextmanager
def law_in_force(network: Network, observed: Observed) -> Iterator[None]:
    """Let the dataset's law be the prior of a network's p(D | image), and then what was before."""
    if isinstance(network, DistanceNetwork):  # it has no prior
        yield
        return
    head = network.head
    before = head.log_prior.clone()
    head.set_prior(law_on_grid(observed, head.grid_mpc.double().numpy(force=True)))
    try:
        yield
    finally:
        head.log_prior.copy_(before)


def _law(observed: Observed, limits_mpc: tuple[float, float] | None) -> Simulated | None:
    """Law of the distances; None where it is unknown."""
    if limits_mpc is not None:
        low, high = limits_mpc
        return Uniform(distribution="uniform", min_mpc=low, max_mpc=high)
    law = observed.survey.distances
    return law if isinstance(law, Simulated) else None


def _support_mpc(observed: Observed, law: Simulated | None) -> tuple[float, float]:
    if law is not None:
        return support_mpc(law)
    D_z = observed.table["distance_z_mpc"].to_value(u.Mpc)[observed.rows("train")]
    by = 3 * observed.survey.sigma_z_mpc
    return max(0.0, float(D_z.min()) - by), float(D_z.max()) + by


def _on_grid(law: Simulated | None, ends_mpc: tuple[float, float], grid_mpc: Array) -> Array:
    """Probabilities (G,) that sum to one; NaN where the grid has no distance of the law."""
    p = share_between(grid_mpc, *ends_mpc)
    if law is not None:
        p = p * distance_density(law, grid_mpc)
    with np.errstate(invalid="ignore"):
        return np.asarray(p / p.sum())
