"""Which distance a redshift means, and which velocity is left: Hubble's law or flat LambdaCDM.

D, here and in what a network predicts, is the comoving distance along the line of sight. A network
learns it from images that are placed by Euclid's rules, angles as 1/D and fluxes as 1/D^2, if
they are placed by Hubble's law. Real angles go with D / (1 + z) and real fluxes with D (1 + z), 2 %
either way at 100 Mpc, so that surface brightness falls as (1 + z)^-4 (Tolman 1930, PNAS 16, 511;
Hogg 1999, astro-ph/9905116): images are placed so in flat LambdaCDM (`Cosmography.redshift`).

Light of a galaxy at D that moves by v is redshifted by 1 + z = (1 + z_cos(D)) (1 + v / c). With

    x(D) = c ln(1 + z_cos(D)) / H0,  X = c ln(1 + z) / H0,

v = H0 (X - x) up to v^2 / 2c, which is 0.3 km/s at 400 km/s. So posteriors that take v linear in
distance hold for x in place of D. By Hubble's law, which is the paper's, z_cos = H0 D / c, and its
v = cz - H0 D is kept as it is: x = D.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from peculiar.core.photometry import SPEED_OF_LIGHT_KMS

Array = NDArray[np.float64]
OM0 = 0.3  # matter; distances below 400 Mpc change by 0.5 % from 0.25 to 0.35
Z_MAX = 1.1  # of the table of distances; a redshift is below 1, and the Sun's motion adds to it
Cosmology = Literal["hubble", "flat_lambda_cdm"]
COSMOLOGIES: tuple[Cosmology, ...] = get_args(Cosmology)
HUBBLE, FLAT_LAMBDA_CDM = COSMOLOGIES


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
        return _odd(cz / SPEED_OF_LIGHT_KMS, z, D)

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
        return SPEED_OF_LIGHT_KMS * _odd(D, distance, z)

    def redshift(self, D_mpc: ArrayLike) -> Array | None:
        """Redshift by which light of a distance is shifted and dimmed, to place images.

        Parameters
        ----------
        D_mpc : array_like, any shape
            Mpc.

        Returns
        -------
        ndarray, same shape, or None
            z_cos; None by Hubble's law, with which images are placed by Euclid's rules.
        """
        if self.name == HUBBLE:
            return None
        return self.cosmological_cz_kms(D_mpc) / SPEED_OF_LIGHT_KMS

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
        return np.asarray((cz - cosmological) / (1 + cosmological / SPEED_OF_LIGHT_KMS))

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
        return np.asarray(SPEED_OF_LIGHT_KMS * np.log1p(cz / SPEED_OF_LIGHT_KMS) / self.H0_kms_mpc)

    def x_error_kms(self, cz_kms: ArrayLike, cz_error_kms: ArrayLike) -> Array:
        """Error of H0 X (n,), km/s, of redshifts (n,) and their errors (n,), km/s."""
        error = np.asarray(cz_error_kms, dtype=float)
        if self.name == HUBBLE:
            return error
        return np.asarray(error / (1 + np.asarray(cz_kms, dtype=float) / SPEED_OF_LIGHT_KMS))


def _odd(at: Array, x: Array, y: Array) -> Array:
    """An odd function that rises through the points (x, y), x from 0; NaN beyond them."""
    return np.asarray(np.sign(at) * np.interp(np.abs(at), x, y, right=np.nan))


@lru_cache(maxsize=4)
def _comoving(H0_kms_mpc: float, Om0: float) -> tuple[Array, Array]:
    """Redshifts (k,) from 0 to `Z_MAX` and their comoving distances (k,), Mpc."""
    z = np.linspace(0, Z_MAX, round(Z_MAX * 1e4) + 1)
    middle = (z[1:] + z[:-1]) / 2
    ends, between = (1 / np.sqrt(Om0 * (1 + at) ** 3 + 1 - Om0) for at in (z, middle))
    # Simpson's rule
    pieces = (ends[1:] + 4 * between + ends[:-1]) * (z[1] - z[0]) / 6
    return z, SPEED_OF_LIGHT_KMS / H0_kms_mpc * np.concatenate([[0.0], np.cumsum(pieces)])
