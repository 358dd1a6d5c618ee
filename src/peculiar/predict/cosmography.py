"""Which distance a redshift means, and which velocity is left: Hubble's law or flat LambdaCDM.

D, here and in what a network predicts, is the comoving distance along the line of sight. A network
learns it from images that are placed by Euclid's rules, angles as 1/D and fluxes as 1/D^2. Real
angles go with D / (1 + z) and real fluxes with D (1 + z) (Hogg 1999, astro-ph/9905116), 2 % either
way at 100 Mpc, which is not corrected.

Light of a galaxy at D that moves by v is redshifted by 1 + z = (1 + z_cos(D)) (1 + v / c). With

    x(D) = c ln(1 + z_cos(D)) / H0,  X = c ln(1 + z) / H0,

v = H0 (X - x) up to v^2 / 2c, which is 0.3 km/s at 400 km/s. So posteriors that take v linear in
distance hold for x in place of D. By Hubble's law, which is the paper's, z_cos = H0 D / c, and its
v = cz - H0 D is kept as it is: x = D.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.constants import speed_of_light

from peculiar.velocity.grid import cells_mpc

Array = NDArray[np.float64]
C_KMS = speed_of_light * 1e-3
OM0 = 0.3  # matter; distances below 400 Mpc change by 0.5 % from 0.25 to 0.35
Z_MAX = 1.1  # of the table of distances; a redshift is below 1, and the Sun's motion adds to it
HUBBLE, FLAT_LAMBDA_CDM = "hubble", "flat_lambda_cdm"
COSMOLOGIES = (HUBBLE, FLAT_LAMBDA_CDM)


@dataclass(frozen=True)
class Cosmography:
    """A law of distance and redshift.

    Attributes
    ----------
    name : {"hubble", "flat_lambda_cdm"}
        Hubble's law, or a flat universe of matter and a cosmological constant.
    H0_kms_mpc : float
        Hubble constant, km/s/Mpc.
    Om0 : float
        Density of matter over the critical one; not used by Hubble's law.
    """

    name: str
    H0_kms_mpc: float
    Om0: float = OM0

    def describe(self) -> str:
        """Name and parameters, for metadata."""
        if self.name == HUBBLE:
            return f"{self.name}, H0 = {self.H0_kms_mpc:g}"
        return f"{self.name}, H0 = {self.H0_kms_mpc:g}, Om0 = {self.Om0:g}"

    def distance_mpc(self, cz_kms: ArrayLike) -> Array:
        """Comoving distance of a cosmological redshift.

        Parameters
        ----------
        cz_kms : array_like, any shape
            Speed of light times the redshift, km/s; negative ones have negative distances.

        Returns
        -------
        ndarray, same shape
            Mpc; NaN beyond z = `Z_MAX` in a flat universe.
        """
        cz = np.asarray(cz_kms, dtype=float)
        if self.name == HUBBLE:
            return np.asarray(cz / self.H0_kms_mpc)
        z, D = _comoving(self.H0_kms_mpc, self.Om0)
        return np.asarray(np.sign(cz) * np.interp(np.abs(cz) / C_KMS, z, D, right=np.nan))

    def cosmological_cz_kms(self, D_mpc: ArrayLike) -> Array:
        """Speed of light times the redshift z_cos of a comoving distance: inverts `distance_mpc`.

        Parameters
        ----------
        D_mpc : array_like, any shape
            Mpc.

        Returns
        -------
        ndarray, same shape
            km/s.
        """
        D = np.asarray(D_mpc, dtype=float)
        if self.name == HUBBLE:
            return np.asarray(D * self.H0_kms_mpc)
        z, distance = _comoving(self.H0_kms_mpc, self.Om0)
        return np.asarray(np.sign(D) * C_KMS * np.interp(np.abs(D), distance, z, right=np.nan))

    def velocity_kms(self, cz_kms: ArrayLike, D_mpc: ArrayLike) -> Array:
        """Peculiar velocity: c (z - z_cos) / (1 + z_cos), or cz - H0 D by Hubble's law.

        Parameters
        ----------
        cz_kms : array_like
            Speed of light times the redshift in the CMB's frame, km/s.
        D_mpc : array_like, broadcast with it
            Distance, Mpc.

        Returns
        -------
        ndarray
            km/s; positive away from us.
        """
        cz, cosmological = np.asarray(cz_kms, dtype=float), self.cosmological_cz_kms(D_mpc)
        if self.name == HUBBLE:
            return np.asarray(cz - cosmological)
        return np.asarray((cz - cosmological) / (1 + cosmological / C_KMS))

    def x_mpc(self, D_mpc: ArrayLike) -> Array:
        """The coordinate x of distances, Mpc, in which velocities are linear; see the module."""
        if self.name == HUBBLE:
            return np.asarray(D_mpc, dtype=float)
        return self.x_of_redshift_mpc(self.cosmological_cz_kms(D_mpc))

    def x_of_redshift_mpc(self, cz_kms: ArrayLike) -> Array:
        """The coordinate X of redshifts, Mpc; see the module."""
        cz = np.asarray(cz_kms, dtype=float)
        if self.name == HUBBLE:
            return np.asarray(cz / self.H0_kms_mpc)
        return np.asarray(C_KMS * np.log1p(cz / C_KMS) / self.H0_kms_mpc)

    def x_error_kms(self, cz_kms: ArrayLike, cz_error_kms: ArrayLike) -> Array:
        """Error of H0 X (n,), km/s, of redshifts (n,) and their errors (n,), km/s."""
        error = np.asarray(cz_error_kms, dtype=float)
        if self.name == HUBBLE:
            return error
        return np.asarray(error / (1 + np.asarray(cz_kms, dtype=float) / C_KMS))

    def in_x(self, p: Array, grid_mpc: Array) -> tuple[Array, Array]:
        """Move distributions of D to equal cells of x.

        Parameters
        ----------
        p : ndarray, (n, G)
            Distributions, each row summing to one, uniform within each cell.
        grid_mpc : ndarray, (G,)
            Middles of equal cells of D, Mpc.

        Returns
        -------
        p : ndarray, (n, G')
            The same distributions.
        x_mpc : ndarray, (G',)
            Middles of equal cells of x, Mpc.
        """
        if self.name == HUBBLE:
            return p, grid_mpc
        half = (grid_mpc[1] - grid_mpc[0]) / 2
        edges = self.x_mpc(np.append(grid_mpc - half, grid_mpc[-1] + half))
        x = cells_mpc((float(edges[0]), float(edges[-1])), float(np.diff(edges).min()))
        half_x = (x[1] - x[0]) / 2
        below = np.concatenate([np.zeros((len(p), 1)), np.cumsum(p, axis=1)], axis=1)
        ends = np.append(x - half_x, x[-1] + half_x)
        moved = np.array([np.diff(np.interp(ends, edges, row)) for row in below])
        return moved.reshape(len(p), len(x)), x


@lru_cache(maxsize=4)
def _comoving(H0_kms_mpc: float, Om0: float) -> tuple[Array, Array]:
    """Redshifts (k,) from 0 to `Z_MAX` and their comoving distances (k,), Mpc."""
    z = np.linspace(0, Z_MAX, round(Z_MAX * 1e4) + 1)
    middle = (z[1:] + z[:-1]) / 2
    ends, between = (1 / np.sqrt(Om0 * (1 + at) ** 3 + 1 - Om0) for at in (z, middle))
    # Simpson's rule
    pieces = (ends[1:] + 4 * between + ends[:-1]) * (z[1] - z[0]) / 6
    return z, C_KMS / H0_kms_mpc * np.concatenate([[0.0], np.cumsum(pieces)])


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
