"""Mock catalogues of galaxies with a bulk flow, and distances with errors."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peculiar.flow.likelihood import Galaxies
from peculiar.velocity.grid import gaussian, with_prior

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Mock:
    """What mock galaxies are.

    Attributes
    ----------
    galaxies : int
        Their number.
    sigma_D_mpc : float
        Gaussian error of the distance that an image tells, Mpc.
    flow_kms : tuple of float
        Bulk flow, km/s.
    sigma_v_kms : float
        Deviation of velocities about it, km/s.
    zero_point : float
        Fraction by which all distances are too small.
    range_mpc : tuple of float
        Galaxies lie between, with equal numbers in equal volumes, Mpc.
    hidden_deg : float
        No galaxies are nearer than this to the plane z = 0, that of the Milky Way, deg.
    cz_error_kms : float
        Error of redshifts, km/s.
    """

    galaxies: int = 20_000
    sigma_D_mpc: float = 10.0
    flow_kms: tuple[float, float, float] = (100.0, -200.0, 200.0)
    sigma_v_kms: float = 400.0
    zero_point: float = 0.0
    range_mpc: tuple[float, float] = (40.0, 110.0)
    hidden_deg: float = 10.0
    cz_error_kms: float = 0.0
    H0_kms_mpc: float = 70.0


@dataclass(frozen=True)
class Drawn:
    """One mock catalogue: what is known of its galaxies, and p(D | image) without the prior.

    `flat` is the likelihood of the distance (n, G), on the grid of `galaxies`.
    """

    galaxies: Galaxies
    flat: Array


def on_the_sky(mock: Mock, D_mpc: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Draw unit vectors (n, 3) to galaxies at distances (n,), Mpc, and redshifts (n,), km/s."""
    n = len(D_mpc)
    z = rng.uniform(np.sin(np.radians(mock.hidden_deg)), 1, n) * rng.choice([-1, 1], n)
    angle, flat = rng.uniform(0, 2 * np.pi, n), np.sqrt(1 - z**2)
    towards = np.column_stack([flat * np.cos(angle), flat * np.sin(angle), z])
    v = towards @ np.array(mock.flow_kms) + rng.normal(0, mock.sigma_v_kms, n)
    cosmological = (1 + mock.zero_point) * mock.H0_kms_mpc * D_mpc
    return towards, cosmological + v + mock.cz_error_kms * rng.normal(size=n)


def drawn(mock: Mock, rng: np.random.Generator) -> Drawn:
    """Draw one mock catalogue."""
    n, (low, high), H0 = mock.galaxies, mock.range_mpc, mock.H0_kms_mpc
    D = np.cbrt(rng.uniform(low**3, high**3, n))
    towards, cz = on_the_sky(mock, D, rng)
    reach = 4 * mock.sigma_D_mpc
    grid = np.arange(max(low - reach, 0) + 0.5, high + reach, 1.0)
    p = gaussian(rng.normal(D, mock.sigma_D_mpc), mock.sigma_D_mpc, grid)
    law = np.where((grid > low) & (grid < high), grid**2, 0)
    error = np.full(n, mock.cz_error_kms / H0)
    return Drawn(Galaxies(with_prior(p, law), grid, cz / H0, error, towards), p)
