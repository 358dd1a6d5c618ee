"""The posterior of the peculiar velocity of each galaxy, with its own prior and law."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from peculiar.core.cosmography import HUBBLE, Cosmography
from peculiar.predict.priors import distance_grid
from peculiar.predict.velocities import VelocityPriors
from peculiar.registry.champion import Champion
from peculiar.velocity.grid import moved, split_cells
from peculiar.velocity.hubble import velocity_posterior_kms
from peculiar.velocity.posterior import Velocity, normal, velocity_on_grid

Array = NDArray[np.float64]
CELLS_AT_ONCE = 2**22  # of the grids: 32 MiB


def posterior(
    champion: Champion,
    given: Array,
    cz_kms: Array,
    cz_error_kms: Array,
    law: Cosmography,
    velocities: VelocityPriors,
) -> dict[str, Array]:
    """Posteriors of the peculiar velocity, as columns; see `peculiar.predict.velocities`.

    Parameters
    ----------
    champion : Champion
        Its grid, error, sigma_v and Hubble constant.
    given : ndarray, (n,) or (n, G)
        Distances, Mpc, or p(D | image) with the prior.
    cz_kms, cz_error_kms : ndarray, (n,)
        Redshifts times the speed of light and their standard deviations, km/s.
    law : Cosmography
        Law of distance and redshift.
    velocities : VelocityPriors
        Priors on the velocities.

    Returns
    -------
    dict of str to ndarray, (n,)
        `v_hat`, `v_error` and the ends of the intervals, km/s.
    """
    mean, sigma_v, H0 = velocities.mean_kms, velocities.deviation_kms, champion.H0_kms_mpc
    X = law.x_of_redshift_mpc(cz_kms) - mean / H0
    error = law.x_error_kms(cz_kms, cz_error_kms)
    if given.ndim == 1:
        low, high = (law.x_mpc(given + k * champion.sigma_D_mpc) for k in (-1, 1))
        sigma = np.hypot((high - low) / 2, error / H0)
        v = normal(*velocity_posterior_kms(H0 * (X - law.x_mpc(given)), sigma, sigma_v, H0))
        return _columns_of(v, mean)
    p, x = given, distance_grid(champion)
    if law.name != HUBBLE:  # whose x is D
        p, x = moved(p, x, law.x_mpc)
    columns: dict[str, Array] = {}
    for rows, parts in _by_width(champion.sigma_v_kms, sigma_v, error, len(x)):
        fine, at = split_cells(p[rows], x, parts)
        v = velocity_on_grid(fine, at, X[rows], sigma_v[rows], H0, cz_error_kms=error[rows])
        for name, values in _columns_of(v, mean[rows]).items():
            columns.setdefault(name, np.full(len(p), np.nan))[rows] = values
    return columns


def _by_width(
    usual_kms: float, sigma_v_kms: Array, error_kms: Array, cells: int
) -> Iterator[tuple[NDArray[np.intp], int]]:
    """Rows (k,) that need each cell of the grid split into so many parts.

    A narrow prior gets as many cells in a deviation as the usual one has.
    """
    wider = np.hypot(usual_kms, error_kms) / np.hypot(sigma_v_kms, error_kms)
    parts = 2 ** np.ceil(np.log2(np.maximum(wider, 1))).astype(int)
    for number in np.unique(parts):
        rows = np.flatnonzero(parts == number)
        at_once = max(CELLS_AT_ONCE // (number * cells), 1)
        for first in range(0, len(rows), at_once):
            yield rows[first : first + at_once], int(number)


def _columns_of(v: Velocity, by_kms: Array) -> dict[str, Array]:
    """Columns of posteriors, moved by velocities (n,), km/s."""
    ends = {f"v_low{level}": values for level, values in v.low_kms.items()}
    ends |= {f"v_high{level}": values for level, values in v.high_kms.items()}
    ends |= {"v_hat": v.mean_kms}
    return {"v_error": v.deviation_kms, **{name: at + by_kms for name, at in ends.items()}}
