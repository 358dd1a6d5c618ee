"""The law of the distances at which simulated galaxies are placed: draws, limits, density."""

import numpy as np
from numpy.typing import NDArray

from peculiar.core.survey import Simulated, Uniform, Volume


def draw_distances_mpc(
    distances: Simulated, size: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw random distances (paper, section 3.2).

    Normal distances are not cut at 50 and 100 Mpc: the paper does not mention a cut, and it would
    lower their deviation to 12.5 Mpc. Only those below `min_mpc` are drawn again. For galaxies
    uniform in volume, the cubes of the distances are uniform.

    Parameters
    ----------
    distances : Uniform, Volume or Normal
        Their distribution.
    size : int
        Number of distances.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray, (size,)
        Distances, Mpc.
    """
    if isinstance(distances, Uniform):
        return rng.uniform(distances.min_mpc, distances.max_mpc, size)
    if isinstance(distances, Volume):
        return np.cbrt(rng.uniform(distances.min_mpc**3, distances.max_mpc**3, size))
    from scipy.stats import truncnorm  # half a second to import, for normal distances only

    lowest = (distances.min_mpc - distances.mean_mpc) / distances.sigma_mpc
    law = truncnorm(lowest, np.inf, loc=distances.mean_mpc, scale=distances.sigma_mpc)
    return np.asarray(law.rvs(size, random_state=rng))


def support_mpc(distances: Simulated) -> tuple[float, float]:
    """Least and greatest distance, Mpc; of normal ones, five deviations above the mean."""
    if isinstance(distances, Uniform | Volume):
        return distances.min_mpc, distances.max_mpc
    return distances.min_mpc, distances.mean_mpc + 5 * distances.sigma_mpc


def distance_density(distances: Simulated, D_mpc: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the density of the law that `draw_distances_mpc` draws from.

    Parameters
    ----------
    distances : Uniform, Volume or Normal
        The law.
    D_mpc : ndarray, any shape
        Distances within `support_mpc`, whose limits are not looked at, Mpc.

    Returns
    -------
    ndarray, same shape
        Density, up to a factor.
    """
    if isinstance(distances, Uniform):
        return np.ones_like(D_mpc)
    if isinstance(distances, Volume):
        return D_mpc**2
    return np.exp(-0.5 * ((D_mpc - distances.mean_mpc) / distances.sigma_mpc) ** 2)
