"""Bulk flow of galaxies and the zero point of their distances, by maximum likelihood.

A galaxy in the direction n, at the distance D, moves by V n + N(0, sigma_v). In the coordinates x
and X of `peculiar.core.cosmography`, in which velocities are linear (x = D and X = cz / H0 by
Hubble's law), its redshift is

    H0 X = (1 + s) H0 x(D) + V n + N(0, sigma_v) + N(0, error of the redshift).

V is the bulk flow, km/s. s is the zero point: all distances are too small by this fraction. It is
the monopole, and takes up an error of H0 too. D is not known, but its distribution given the image
is, so that the likelihood of a redshift is the integral over it,

    p(X | V, s, sigma_v) = sum over the grid of p(D | image) N(X; (1 + s) x(D) + V n / H0, tau),

tau^2 = (sigma_v^2 + error^2) / H0^2. No distance is picked, so none is biased by the picking
(Malmquist bias), as long as the prior in p(D | image) is the law by which the survey's galaxies are
distributed. V and s are flat, sigma_v is flat in its logarithm and integrated over. See Kaiser
(1988, MNRAS 231, 149) for the flow, and Strauss & Willick (1995, Phys. Rep. 261, 271, section 6.4)
for redshifts given distances with errors ("forward" methods).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
AT_ONCE = 1000  # galaxies: what a processor's cache holds, four times as fast as 20,000


@dataclass(frozen=True)
class Galaxies:
    """Galaxies whose distances have one grid.

    Attributes
    ----------
    p : ndarray, (n, G)
        p(D | image) with the prior of the survey, each row summing to one.
    x_mpc : ndarray, (G,)
        Coordinate x of the grid's distances, Mpc.
    X_mpc, X_error_mpc : ndarray, (n,)
        Coordinate X of the redshifts and its standard deviation, Mpc.
    towards : ndarray, (n, 3)
        Unit vectors.
    """

    p: Array
    x_mpc: Array
    X_mpc: Array
    X_error_mpc: Array
    towards: Array

    def pieces(self) -> "list[Galaxies]":
        """The same galaxies, `AT_ONCE` at a time."""
        return [
            Galaxies(self.p[at], self.x_mpc, self.X_mpc[at], self.X_error_mpc[at], self.towards[at])
            for at in (
                slice(first, first + AT_ONCE) for first in range(0, len(self.X_mpc), AT_ONCE)
            )
        ]


def log_likelihood(
    galaxies: Galaxies, H0_kms_mpc: float, sigma_v_kms: float, flow: Array
) -> tuple[float, Array, Array]:
    """Compute the logarithm of the likelihood of redshifts, its gradient and its curvature.

    Parameters
    ----------
    galaxies : Galaxies
        All at once: see `Galaxies.pieces`.
    H0_kms_mpc : float
        Hubble constant, km/s/Mpc.
    sigma_v_kms : float
        Deviation of velocities about the flow, km/s.
    flow : ndarray, (4,)
        V, km/s, and the zero point.

    Returns
    -------
    value : float
    gradient : ndarray, (4,)
    hessian : ndarray, (4, 4)
    """
    q, a, log_p = given_redshift(galaxies, H0_kms_mpc, sigma_v_kms, flow)
    variance = galaxies.X_error_mpc**2 + (sigma_v_kms / H0_kms_mpc) ** 2
    x = galaxies.x_mpc
    n = galaxies.towards / H0_kms_mpc
    # moments over q of a, the derivative by the mean redshift, with powers of x: (n, 3) each
    powers = np.stack([np.ones_like(x), x, x**2], axis=1)
    first, second, plain = (q * a) @ powers, (q * a**2) @ powers, q @ powers
    gradient = np.concatenate([first[:, 0] @ n, [first[:, 1].sum()]])
    terms = second - plain / variance[:, None]
    of_V = np.einsum("i,ij,ik->jk", terms[:, 0] - first[:, 0] ** 2, n, n)
    mixed = (terms[:, 1] - first[:, 0] * first[:, 1]) @ n
    of_s = (terms[:, 2] - first[:, 1] ** 2).sum()
    hessian = np.block([[of_V, mixed[:, None]], [mixed[None, :], np.array([[of_s]])]])
    return float(log_p.sum()), gradient, hessian


def given_redshift(
    galaxies: Galaxies, H0_kms_mpc: float, sigma_v_kms: float, flow: Array
) -> tuple[Array, Array, Array]:
    """Compute what the redshifts add to the distances; parameters as in `log_likelihood`.

    Returns
    -------
    q : ndarray, (n, G)
        p(D | image, redshift), each row summing to one.
    slope : ndarray, (n, G)
        Derivative of log N(X; mean, tau) by the mean, 1/Mpc.
    log_p : ndarray, (n,)
        Logarithm of p(X), 1/Mpc.
    """
    mean = galaxies.towards @ flow[:3] / H0_kms_mpc
    rest = (galaxies.X_mpc - mean)[:, None] - (1 + flow[3]) * galaxies.x_mpc
    variance = galaxies.X_error_mpc**2 + (sigma_v_kms / H0_kms_mpc) ** 2
    exponent = -0.5 * rest**2 / variance[:, None]
    # relative to the largest that the image allows, so that no row underflows to 0/0
    top = np.where(galaxies.p > 0, exponent, -np.inf).max(axis=1, keepdims=True)
    weight = galaxies.p * np.exp(np.minimum(exponent - top, 0))
    total = weight.sum(axis=1)
    log_p = top[:, 0] + np.log(total) - 0.5 * np.log(2 * np.pi * variance)
    return weight / total[:, None], rest / variance[:, None], log_p
