"""Distributions of distance on a grid of equal cells, uniform within each cell."""

from collections.abc import Callable
from math import ceil
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[np.float64]
Values = TypeVar("Values", NDArray[np.float64], "Tensor")


def cells_mpc(range_mpc: tuple[float, float], most_mpc: float) -> Array:
    """Middles (G,), Mpc, of equal cells between two distances, none wider than `most_mpc`."""
    cells = ceil((range_mpc[1] - range_mpc[0]) / most_mpc)
    edges = np.linspace(*range_mpc, cells + 1)
    return np.asarray((edges[1:] + edges[:-1]) / 2)


def share_between(grid_mpc: Array, low_mpc: float, high_mpc: float) -> Array:
    """Fraction (G,) of each cell of a grid (G,) of equal cells that lies between two distances."""
    half = (grid_mpc[1] - grid_mpc[0]) / 2
    above = np.maximum(grid_mpc - half, low_mpc)
    below = np.minimum(grid_mpc + half, high_mpc)
    # rounded, so that a cell that only touches a limit has none
    return np.asarray(np.round(np.clip((below - above) / (2 * half), 0, 1), 9))


def split_cells(p: Array, grid_mpc: Array, parts: int) -> tuple[Array, Array]:
    """Split each cell of distributions (n, G) on a grid (G,), Mpc, into equal parts."""
    step = grid_mpc[1] - grid_mpc[0]
    inside = (np.arange(parts) - (parts - 1) / 2) * step / parts
    return np.repeat(p / parts, parts, axis=1), (grid_mpc[:, None] + inside).ravel()


def with_prior(p: Array, prior_ratio: ArrayLike) -> Array:
    """Replace the prior of p(D | image) by another.

    Parameters
    ----------
    p : ndarray, (n, G)
        p(D | image), each row summing to one.
    prior_ratio : array_like, (G,)
        Ratio of the other prior to that of `p`, up to a factor.

    Returns
    -------
    ndarray, (n, G)
        Rows sum to one. A row is NaN where `p` is zero at all distances of the other prior.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        log_q = np.log(p) + np.log(np.asarray(prior_ratio, dtype=float))
        # relative to the largest, so that no row underflows to 0/0
        q = np.exp(log_q - log_q.max(axis=1, keepdims=True))
    return np.asarray(q / q.sum(axis=1, keepdims=True))


def moments(q: Values, grid_mpc: Values) -> tuple[Values, Values]:
    """Mean and standard deviation (n,), Mpc, of distributions (n, G) on a grid (G,), Mpc.

    It uses operators only, so it also takes tensors, as in the network that `peculiar serve`
    exports.
    """
    mean = q @ grid_mpc
    variance = (q * (grid_mpc - mean[:, None]) ** 2).sum(-1)
    within = (grid_mpc[1] - grid_mpc[0]) ** 2 / 12  # variance within a cell
    return mean, (variance + within) ** 0.5


def cdf(q: Array, grid_mpc: Array, D_mpc: ArrayLike) -> Array:
    """Compute the probability of a distance below a given one.

    Parameters
    ----------
    q : ndarray, (n, G)
        Distributions, each row summing to one.
    grid_mpc : ndarray, (G,)
        Equally spaced distances, Mpc.
    D_mpc : array_like, (n,)
        Distances, Mpc.

    Returns
    -------
    ndarray, (n,)
        Probabilities; for true distances, the PIT values.
    """
    step = grid_mpc[1] - grid_mpc[0]
    position = (np.asarray(D_mpc, dtype=float) - grid_mpc[0]) / step + 0.5
    return np.asarray((q * np.clip(position[:, None] - np.arange(len(grid_mpc)), 0, 1)).sum(axis=1))


def quantile(q: Array, grid_mpc: Array, level: float) -> Array:
    """Compute the distance with a given probability below it: the inverse of `cdf`.

    Parameters
    ----------
    q, grid_mpc
        See `cdf`.
    level : float
        Probability, from 0 to 1.

    Returns
    -------
    ndarray, (n,)
        Distances, Mpc.
    """
    step = grid_mpc[1] - grid_mpc[0]
    edges = np.append(grid_mpc - step / 2, grid_mpc[-1] + step / 2)
    below = np.concatenate([np.zeros((len(q), 1)), np.cumsum(q, axis=1)], axis=1)
    return np.array([np.interp(level, row / row[-1], edges) for row in below])


def gaussian(mean_mpc: ArrayLike, sigma_mpc: float, grid_mpc: Array) -> Array:
    """Compute p(D | image) for Gaussian errors, truncated to the grid.

    Parameters
    ----------
    mean_mpc : array_like, (n,)
        Predicted distances, Mpc.
    sigma_mpc : float
        Their error, Mpc.
    grid_mpc : ndarray, (G,)
        Equally spaced distances, Mpc.

    Returns
    -------
    ndarray, (n, G)
        Rows sum to one.
    """
    z = (grid_mpc - np.asarray(mean_mpc, dtype=float)[:, None]) / sigma_mpc
    # relative to the largest, so that a mean far beyond the grid does not underflow to 0/0
    p = np.exp(-0.5 * (z**2 - (z**2).min(axis=1, keepdims=True)))
    return np.asarray(p / p.sum(axis=1, keepdims=True))


def moved(p: Array, grid_mpc: Array, coordinate: Callable[[Array], Array]) -> tuple[Array, Array]:
    """Move distributions of the distance to equal cells of another coordinate.

    Parameters
    ----------
    p : ndarray, (n, G)
        Distributions, each row summing to one, uniform within each cell.
    grid_mpc : ndarray, (G,)
        Middles of equal cells of the distance, Mpc.
    coordinate : callable
        Gives the coordinate, Mpc, of distances; it increases.

    Returns
    -------
    p : ndarray, (n, G')
        The same distributions.
    x_mpc : ndarray, (G',)
        Middles of equal cells of the coordinate, Mpc.
    """
    half = (grid_mpc[1] - grid_mpc[0]) / 2
    edges = coordinate(np.append(grid_mpc - half, grid_mpc[-1] + half))
    x = cells_mpc((float(edges[0]), float(edges[-1])), float(np.diff(edges).min()))
    half_x = (x[1] - x[0]) / 2
    below = np.concatenate([np.zeros((len(p), 1)), np.cumsum(p, axis=1)], axis=1)
    ends = np.append(x - half_x, x[-1] + half_x)
    found = np.array([np.diff(np.interp(ends, edges, row)) for row in below])
    return found.reshape(len(p), len(x)), x


def log_distance_ratio(p: Array, grid_mpc: Array, D_z_mpc: ArrayLike) -> tuple[Array, Array]:
    """Compute eta = log10(D_z / D), which catalogues of distances exchange.

    Parameters
    ----------
    p : ndarray, (n, G)
        p(D | image), each row summing to one.
    grid_mpc : ndarray, (G,)
        Distances, Mpc.
    D_z_mpc : array_like, (n,)
        Redshift distances, Mpc; NaN, and those that are not positive, have no ratio.

    Returns
    -------
    eta, error : ndarray, (n,)
        Mean and standard deviation over p(D | image); D_z is taken as exact.
    """
    log_D = np.log10(grid_mpc)
    mean = p @ log_D
    deviation = np.sqrt(np.maximum(p @ log_D**2 - mean**2, 0))
    D_z = np.asarray(D_z_mpc, dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):
        eta = np.where(D_z > 0, np.log10(D_z) - mean, np.nan)
    return eta, np.where(np.isfinite(eta), deviation, np.nan)
