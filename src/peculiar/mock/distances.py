"""Distances that simulated galaxies are put at."""

import numpy as np
from numpy.typing import NDArray

from peculiar.core.survey import Simulated, Uniform, Volume


def draw_distances_mpc(
    distances: Simulated, size: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Distances (size,), Mpc (paper, section 3.2).

    Normal distances are not cut at 50 and 100 Mpc, which the paper does not mention and which
    would lower their deviation to 12.5 Mpc; only those nearer than `min_mpc` are drawn again.
    In a volume, the cubes of distances are uniform.
    """
    if isinstance(distances, Uniform):
        return rng.uniform(distances.min_mpc, distances.max_mpc, size)
    if isinstance(distances, Volume):
        return np.cbrt(rng.uniform(distances.min_mpc**3, distances.max_mpc**3, size))
    from scipy.stats import truncnorm  # takes half a second, which uniform distances need not pay

    lowest = (distances.min_mpc - distances.mean_mpc) / distances.sigma_mpc
    law = truncnorm(lowest, np.inf, loc=distances.mean_mpc, scale=distances.sigma_mpc)
    return np.asarray(law.rvs(size, random_state=rng))
