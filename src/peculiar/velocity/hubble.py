"""Hubble's law: redshift distances, peculiar velocities, and the velocity posterior.

Functions take plain numbers, with the unit in the name: speeds in km/s, distances in Mpc, H0 in
km/s/Mpc.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def redshift_distance_mpc(cz_kms: ArrayLike, H0_kms_mpc: float) -> Array:
    """Compute the redshift distance D_z = cz / H0 (paper, equation 4).

    Parameters
    ----------
    cz_kms : array_like, any shape
        Redshift times the speed of light, km/s.
    H0_kms_mpc : float
        Hubble constant, km/s/Mpc.

    Returns
    -------
    ndarray, same shape
        D_z, Mpc.
    """
    return np.asarray(np.asarray(cz_kms, dtype=float) / H0_kms_mpc)


def peculiar_velocity_kms(D_z_mpc: ArrayLike, D_mpc: ArrayLike, H0_kms_mpc: float) -> Array:
    """Compute the peculiar velocity v_p = H0 (D_z - D) (paper, section 4).

    With the true distance this is the true velocity; with a network's distance it is the paper's
    prediction. (Section 4.3 prints the opposite sign once; the slope would then be -1.)

    Parameters
    ----------
    D_z_mpc, D_mpc : array_like, broadcast together
        Redshift distance and distance, Mpc.
    H0_kms_mpc : float
        Hubble constant, km/s/Mpc.

    Returns
    -------
    ndarray
        v_p, km/s; positive away from us.
    """
    return np.asarray(H0_kms_mpc * (np.asarray(D_z_mpc, float) - np.asarray(D_mpc, float)))


def velocity_posterior_kms(
    velocity_kms: ArrayLike, sigma_D_mpc: ArrayLike, sigma_v_kms: ArrayLike, H0_kms_mpc: float
) -> tuple[Array, Array]:
    """Compute the mean and standard deviation of p(v | image, cz) for Gaussian errors.

    The posterior is the product of the image's velocity N(v; v_p, H0 sigma_D) and the velocity
    prior N(v; 0, sigma_v). Its mean is w v_p with w = sigma_v^2 / (sigma_v^2 + H0^2 sigma_D^2), its
    deviation sigma_v H0 sigma_D / sqrt(sigma_v^2 + H0^2 sigma_D^2). It is never wider than the
    prior. The prior on distance is that of the network's training images.

    Parameters
    ----------
    velocity_kms : array_like, any shape
        v_p = H0 (D_z - D_p) from the network's distance, km/s.
    sigma_D_mpc : array_like, () or the same shape
        Error of the network's distance, Mpc.
    sigma_v_kms : array_like, () or the same shape
        Deviation of peculiar velocities, km/s.
    H0_kms_mpc : float
        Hubble constant, km/s/Mpc.

    Returns
    -------
    mean : ndarray, same shape
        Posterior mean, km/s.
    deviation : ndarray, shape of `sigma_D_mpc` and `sigma_v_kms`
        Posterior standard deviation, km/s.
    """
    sigma_v, sigma_image_kms = np.asarray(sigma_v_kms), H0_kms_mpc * np.asarray(sigma_D_mpc, float)
    total = np.hypot(sigma_v, sigma_image_kms)
    mean = (sigma_v / total) ** 2 * np.asarray(velocity_kms, dtype=float)
    return mean, sigma_v * sigma_image_kms / total


def distance_given_redshift_mpc(
    D_z_mpc: ArrayLike, prior_mpc: ArrayLike, sigma_z_mpc: float
) -> tuple[Array, Array]:
    """Compute E[D | D_z] and its deviation without an image: a baseline from the prior alone.

    Parameters
    ----------
    D_z_mpc : array_like, (n,)
        Redshift distances, Mpc.
    prior_mpc : array_like, (m,)
        Distances drawn from the survey's distribution, such as a training set's, Mpc.
    sigma_z_mpc : float
        sigma_v / H0, Mpc.

    Returns
    -------
    mean, deviation : ndarray, (n,)
        Mean and standard deviation of p(D | D_z) with the sample as prior, Mpc.
    """
    D_z = np.asarray(D_z_mpc, dtype=float)[:, None]
    prior = np.asarray(prior_mpc, dtype=float)[None, :]
    exponent = -0.5 * ((D_z - prior) / sigma_z_mpc) ** 2
    # relative to the nearest prior distance, so that no row underflows to 0/0
    weight = np.exp(exponent - exponent.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    mean = (weight * prior).sum(axis=1)
    variance = (weight * (prior - mean[:, None]) ** 2).sum(axis=1)
    return mean, np.sqrt(variance)
