"""Velocity posteriors from an image and a redshift, integrated over a grid of distances.

By Bayes' rule p(D | image, D_z) is proportional to p(D | image) N(D_z; D, sigma_v / H0), where
velocities v = H0 (D_z - D) are normal about zero. p(D | image) may have any shape. Limits of the
distance distribution are taken into account; they matter for galaxies near them. Probability is
uniform within each cell of the grid (`peculiar.velocity.grid`).

A redshift with the error s is cz = H0 D + v + e, where e is normal with deviation s. It constrains
H0 D to sqrt(sigma_v^2 + s^2) only. At a given distance the sum u = cz - H0 D = v + e is known, and
v is normal about w u, with w = sigma_v^2 / (sigma_v^2 + s^2) and the deviation
sigma_v s / sqrt(sigma_v^2 + s^2). The posterior of v is the mean of these normal distributions
over p(D | image, cz).

A champion's p(D | image) has a flat prior on a grid that reaches beyond its training distances. The
argument `prior_ratio` replaces that prior.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr  # not scipy.stats, which takes a second to import

from peculiar.velocity.grid import Array, cdf, cells_mpc, gaussian, moments, quantile
from peculiar.velocity.hubble import peculiar_velocity_kms, velocity_posterior_kms

SIGMAS = {68: 1, 95: 2}  # half widths of the intervals, in deviations of a Gaussian


def given_redshift(
    p: Array,
    grid_mpc: Array,
    D_z_mpc: ArrayLike,
    sigma_z_mpc: ArrayLike,
    prior_ratio: ArrayLike = 1.0,
) -> Array:
    """Compute p(D | image, D_z) on the grid.

    Parameters
    ----------
    p : ndarray, (n, G)
        p(D | image), each row summing to one.
    grid_mpc : ndarray, (G,)
        Equally spaced distances, Mpc.
    D_z_mpc : array_like, (n,)
        Redshift distances, Mpc.
    sigma_z_mpc : array_like, () or (n,)
        sigma_v / H0, Mpc; with redshift errors, sqrt(sigma_v^2 + error^2) / H0.
    prior_ratio : array_like, (G,), optional
        Ratio of the survey's distance distribution to that of the training images, up to a
        factor. It replaces the prior of the training images.

    Returns
    -------
    ndarray, (n, G)
        Rows sum to one, also for a redshift far beyond the grid: all probability is then at the
        nearest distances of the grid.
    """
    D_z = np.asarray(D_z_mpc, dtype=float)[:, None]
    exponent = -0.5 * ((D_z - grid_mpc) / np.reshape(sigma_z_mpc, (-1, 1))) ** 2
    with np.errstate(divide="ignore"):
        log_q = np.log(p) + np.log(np.asarray(prior_ratio, dtype=float)) + exponent
    # relative to the largest, so that no row underflows to 0/0
    q = np.exp(log_q - log_q.max(axis=1, keepdims=True))
    return np.asarray(q / q.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class Velocity:
    """Posterior distributions of peculiar velocities.

    Attributes
    ----------
    mean_kms, deviation_kms : ndarray, (n,)
        Mean and standard deviation, km/s.
    low_kms, high_kms : dict of int to ndarray, (n,)
        Ends of the central intervals of 68.3 and 95.4 per cent (one and two deviations of a
        Gaussian), km/s; the keys are 68 and 95.
    pit : callable
        Maps velocities (n,), km/s, to the posterior probability (n,) of a smaller velocity. For
        true velocities this is the probability integral transform (PIT), which is uniform on
        [0, 1] if the posterior is calibrated.
    """

    mean_kms: Array
    deviation_kms: Array
    low_kms: dict[int, Array]
    high_kms: dict[int, Array]
    pit: Callable[[Array], Array]


def normal(mean_kms: Array, deviation_kms: Array) -> Velocity:
    """Gaussian posteriors of mean and standard deviation (n,), km/s."""
    return Velocity(
        mean_kms,
        deviation_kms,
        {level: mean_kms - k * deviation_kms for level, k in SIGMAS.items()},
        {level: mean_kms + k * deviation_kms for level, k in SIGMAS.items()},
        lambda v_kms: np.asarray(ndtr((v_kms - mean_kms) / deviation_kms)),
    )


def velocity_on_grid(
    p: Array,
    grid_mpc: Array,
    D_z_mpc: ArrayLike,
    sigma_v_kms: ArrayLike,
    H0_kms_mpc: float,
    prior_ratio: ArrayLike = 1.0,
    cz_error_kms: ArrayLike = 0.0,
) -> Velocity:
    """Compute the posterior velocity of galaxies from p(D | image) on a grid.

    Parameters
    ----------
    p, grid_mpc, D_z_mpc, prior_ratio
        See `given_redshift`.
    sigma_v_kms : array_like, () or (n,)
        Deviation of peculiar velocities, km/s; the grid's cells are several times narrower.
    H0_kms_mpc : float
        Hubble constant, km/s/Mpc.
    cz_error_kms : array_like, () or (n,), optional
        Deviation of the measured redshifts, km/s.

    Returns
    -------
    Velocity
    """
    D_z, sigma_v = np.asarray(D_z_mpc, dtype=float), np.asarray(sigma_v_kms, dtype=float)
    error = np.broadcast_to(np.asarray(cz_error_kms, dtype=float), D_z.shape)
    if error.any():
        q = given_redshift(p, grid_mpc, D_z, np.hypot(sigma_v, error) / H0_kms_mpc, prior_ratio)
        return blurred(q, H0_kms_mpc * (D_z[:, None] - grid_mpc), sigma_v, error)
    q = given_redshift(p, grid_mpc, D_z, sigma_v / H0_kms_mpc, prior_ratio)
    D, deviation_mpc = moments(q, grid_mpc)

    def velocity_at(k: int) -> Array:
        """Velocity (n,), km/s, at the quantile of k Gaussian deviations; large D is small v."""
        return np.asarray(H0_kms_mpc * (D_z - quantile(q, grid_mpc, float(ndtr(-k)))))

    return Velocity(
        H0_kms_mpc * (D_z - D),
        H0_kms_mpc * deviation_mpc,
        {level: velocity_at(-k) for level, k in SIGMAS.items()},
        {level: velocity_at(k) for level, k in SIGMAS.items()},
        lambda v_kms: 1 - cdf(q, grid_mpc, D_z - v_kms / H0_kms_mpc),
    )


def blurred(q: Array, u_kms: Array, sigma_v_kms: ArrayLike, cz_error_kms: Array) -> Velocity:
    """Compute the posterior velocity where the redshift has an error; see the module's text.

    Parameters
    ----------
    q : ndarray, (n, G)
        p(D | image, D_z).
    u_kms : ndarray, (n, G)
        cz - H0 D at the distances of the grid, which are equally spaced, km/s.
    sigma_v_kms : array_like, () or (n,)
        Deviation of peculiar velocities, km/s.
    cz_error_kms : ndarray, (n,)
        Deviation of the measured redshifts, km/s; 0 for no error.

    Returns
    -------
    Velocity
    """
    from scipy.optimize.elementwise import find_root  # takes a fifth of a second to import

    sigma_v = np.asarray(sigma_v_kms, dtype=float)
    total = np.hypot(sigma_v, cz_error_kms)
    weight = (sigma_v / total) ** 2
    middle, width = weight[:, None] * u_kms, weight * np.abs(u_kms[:, 1] - u_kms[:, 0])
    # not zero, which would divide by zero; cells without an error keep sharp edges
    spread = np.maximum(sigma_v * cz_error_kms / total, 1e-6 * width)

    def below(v_kms: Array, row: NDArray[np.intp]) -> Array:
        """Probability of a velocity below `v_kms` of the galaxy in each `row`, same shape."""
        s, h = spread[row][..., None], width[row][..., None]
        z = (v_kms[..., None] - middle[row]) / s
        step = _ramp(z + h / s / 2) - _ramp(z - h / s / 2)
        return np.asarray(np.einsum("...g,...g->...", q[row], step) * spread[row] / width[row])

    def quantile_at(level: float) -> Array:
        reach = 10 * spread + width
        ends = middle.min(axis=1) - reach, middle.max(axis=1) + reach
        rows = np.arange(len(q))
        return np.asarray(find_root(lambda v, row: below(v, row) - level, ends, args=(rows,)).x)

    mean = np.einsum("ng,ng->n", q, middle)
    variance = np.einsum("ng,ng->n", q, (middle - mean[:, None]) ** 2)
    return Velocity(
        mean,
        np.sqrt(variance + width**2 / 12 + spread**2),
        {level: quantile_at(float(ndtr(-k))) for level, k in SIGMAS.items()},
        {level: quantile_at(float(ndtr(k))) for level, k in SIGMAS.items()},
        lambda v_kms: below(np.asarray(v_kms, dtype=float), np.arange(len(q))),
    )


def _ramp(z: Array) -> Array:
    """Integral up to z of the standard normal cumulative distribution function."""
    return np.asarray(z * ndtr(z) + np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi))


def velocity_from_distance(
    D_p_mpc: ArrayLike,
    D_z_mpc: ArrayLike,
    sigma_D_mpc: float,
    sigma_v_kms: float,
    H0_kms_mpc: float,
    range_mpc: tuple[float, float] | None,
    cz_error_kms: ArrayLike = 0.0,
) -> Velocity:
    """Compute the posterior velocity of galaxies from distances with one Gaussian error.

    Parameters
    ----------
    D_p_mpc, D_z_mpc : array_like, (n,)
        Predicted and redshift distances, Mpc.
    sigma_D_mpc : float
        Error of the predictions, Mpc.
    sigma_v_kms : float
        Deviation of peculiar velocities, km/s.
    H0_kms_mpc : float
        Hubble constant, km/s/Mpc.
    range_mpc : tuple of float or None
        Limits of the galaxies' distances, Mpc. None for no limits; the posterior is then Gaussian
        (`peculiar.velocity.hubble.velocity_posterior_kms`).
    cz_error_kms : array_like, () or (n,), optional
        Deviation of the measured redshifts, km/s.

    Returns
    -------
    Velocity
    """
    D_p, D_z = np.asarray(D_p_mpc, dtype=float), np.asarray(D_z_mpc, dtype=float)
    if range_mpc is None:
        v_p = peculiar_velocity_kms(D_z, D_p, H0_kms_mpc)
        # v_p has both errors
        sigma = np.hypot(sigma_D_mpc, np.asarray(cz_error_kms, dtype=float) / H0_kms_mpc)
        mean, deviation = velocity_posterior_kms(v_p, sigma, sigma_v_kms, H0_kms_mpc)
        return normal(mean, np.full(mean.shape, deviation))
    # cells of at most a fifth of the narrower of the two errors
    grid = cells_mpc(range_mpc, min(sigma_D_mpc, sigma_v_kms / H0_kms_mpc) / 5)
    p = gaussian(D_p, sigma_D_mpc, grid)
    return velocity_on_grid(p, grid, D_z, sigma_v_kms, H0_kms_mpc, cz_error_kms=cz_error_kms)
