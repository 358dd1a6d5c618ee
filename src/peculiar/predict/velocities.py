"""Priors on peculiar velocities: the same for all galaxies, or of each, as a reconstruction gives.

A velocity with the prior N(m, s) is v = m + w, where w has the prior N(0, s). By Hubble's law the
redshift less m, cz - m = H0 D + w, then says of w what cz says of v under the prior N(0, s). The
posterior of w on that redshift, moved by m, is that of v. In a flat universe the same holds for the
coordinates x and X of `peculiar.core.cosmography`, and m / H0.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from peculiar.registry.champion import Champion

Array = NDArray[np.float64]
# a velocity beyond is one in m/s, or a redshift; an error below is that of no reconstruction
GREATEST_KMS, LEAST_ERROR_KMS = 10_000.0, 1.0
OF_ROWS = "N(v_prior, v_prior_error) of each row"
NOT_USABLE = (
    "its v_prior_kms and v_prior_error_kms must both be given, or neither: at most "
    f"{GREATEST_KMS:g} km/s, the error at least {LEAST_ERROR_KMS:g}"
)


@dataclass(frozen=True)
class VelocityPriors:
    """Normal priors on the peculiar velocities of galaxies, in the frame of the CMB.

    Attributes
    ----------
    mean_kms, deviation_kms : ndarray, (n,)
        Means, positive away from us, and standard deviations, km/s; NaN where what was given cannot
        be used.
    """

    mean_kms: Array
    deviation_kms: Array

    def __getitem__(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> "VelocityPriors":
        """The priors of some galaxies."""
        return VelocityPriors(self.mean_kms[rows], self.deviation_kms[rows])

    def expected_mpc(self, D_z_mpc: Array, H0_kms_mpc: float) -> Array:
        """Where redshift distances (n,) and the means expect the galaxies, Mpc; to first order."""
        return np.asarray(D_z_mpc - self.mean_kms / H0_kms_mpc)

    def spread_mpc(self, cz_error_kms: Array, H0_kms_mpc: float) -> Array:
        """Standard deviations (n,) of these distances, Mpc, with errors of redshifts (n,), km/s."""
        return np.asarray(np.hypot(self.deviation_kms, cz_error_kms) / H0_kms_mpc)


def velocity_priors(
    champion: Champion, mean_kms: ArrayLike, error_kms: ArrayLike, n: int
) -> VelocityPriors:
    """Velocity priors of n galaxies.

    Parameters
    ----------
    champion : Champion
        Galaxies without a prior of their own have its N(0, sigma_v).
    mean_kms, error_kms : array_like, (n,) or ()
        Means and standard deviations, km/s; both NaN for none.
    n : int
        Galaxies.

    Returns
    -------
    VelocityPriors
        NaN where one is given without the other, or one cannot be used.
    """
    mean, error = (np.broadcast_to(np.asarray(one, float), n) for one in (mean_kms, error_kms))
    none = np.isnan(mean) & np.isnan(error)
    usable = (np.abs(mean) <= GREATEST_KMS) & (error >= LEAST_ERROR_KMS) & (error <= GREATEST_KMS)
    return VelocityPriors(
        np.where(none, 0.0, np.where(usable, mean, np.nan)),
        np.where(none, champion.sigma_v_kms, np.where(usable, error, np.nan)),
    )


def velocity_priors_said(champion: Champion, mean_kms: ArrayLike, error_kms: ArrayLike) -> str:
    """The velocity priors of a table's rows (n,), for its metadata; rows that are NaN have none."""
    mean, error = np.asarray(mean_kms, float), np.asarray(error_kms, float)
    if ((mean != 0) | (error != champion.sigma_v_kms))[np.isfinite(mean + error)].any():
        return OF_ROWS
    return f"N(0, {champion.sigma_v_kms:g} km/s)"
