"""The paper's measures of distances and velocities, and their bootstrap errors."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from peculiar.velocity.hubble import peculiar_velocity_kms
from peculiar.velocity.posterior import SIGMAS

Array = NDArray[np.float64]

METRICS = (
    "l1_d_mpc",
    "l2_d_mpc",
    "shift_d_mpc",
    "l1_dz_mpc",
    "l2_dz_mpc",
    "velocity_slope",
    "velocity_intercept_kms",
    "velocity_rms_kms",
    "posterior_rms_kms",
    "coverage_68",
    "coverage_95",
)


def l1(true: ArrayLike, predicted: ArrayLike) -> float:
    """Mean absolute error, unit of the input (paper, equation 2)."""
    return float(np.mean(np.abs(np.asarray(true) - np.asarray(predicted))))


def l2(true: ArrayLike, predicted: ArrayLike) -> float:
    """Root mean square error, unit of the input (paper, equation 1)."""
    return float(np.sqrt(np.mean((np.asarray(true) - np.asarray(predicted)) ** 2)))


def average_shift(true: ArrayLike, predicted: ArrayLike) -> float:
    """Mean error, true minus predicted, unit of the input (paper, equation 3)."""
    return float(np.mean(np.asarray(true) - np.asarray(predicted)))


def line_of_best_fit(x: ArrayLike, y: ArrayLike) -> tuple[float, float]:
    """Slope and intercept of the least-squares line y(x); NaN where x does not vary."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    dx = x - x.mean()
    spread = float(dx @ dx)
    if spread == 0.0:
        return float("nan"), float("nan")
    slope = float(dx @ (y - y.mean())) / spread
    return slope, float(y.mean() - slope * x.mean())


def distance_error_mpc(D_z_mpc: ArrayLike, D_p_mpc: ArrayLike, sigma_z_mpc: float) -> float:
    """Estimate the error sigma_D of predicted distances from redshift distances alone.

    sigma_D^2 = L2(D_z)^2 - (sigma_v / H0)^2, since D_z = D + v / H0 and velocities are independent
    of the image. True distances, which no survey has, are not needed.

    Parameters
    ----------
    D_z_mpc, D_p_mpc : array_like, (n,)
        Redshift and predicted distances of galaxies outside the training split, Mpc.
    sigma_z_mpc : float
        sigma_v / H0, Mpc.

    Returns
    -------
    float
        sigma_D, Mpc; at least sigma_z / 10, since a difference of noisy numbers can vanish.
    """
    variance = l2(D_z_mpc, D_p_mpc) ** 2 - sigma_z_mpc**2
    return float(np.sqrt(max(variance, (0.1 * sigma_z_mpc) ** 2)))


def coverage(v_kms: Array, low_kms: Array, high_kms: Array) -> float:
    """Fraction of true velocities (n,) within the stated intervals; NaN if any is unknown."""
    inside = (low_kms <= v_kms) & (v_kms <= high_kms)
    return float(np.mean(np.where(np.isnan(v_kms), np.nan, inside)))


def measure(
    D_mpc: Array,
    D_z_mpc: Array,
    D_p_mpc: Array,
    v_kms: Array,
    v_hat_kms: Array,
    intervals_kms: Mapping[int, tuple[Array, Array]],
    H0_kms_mpc: float,
) -> dict[str, float]:
    """Compute all `METRICS` of one network.

    Parameters
    ----------
    D_mpc, D_z_mpc, D_p_mpc : ndarray, (n,)
        True, redshift and predicted distances, Mpc.
    v_kms : ndarray, (n,)
        True peculiar velocity, km/s. Where any is NaN (unknown), the metrics that use it are NaN.
    v_hat_kms : ndarray, (n,)
        Posterior mean of the peculiar velocity, km/s.
    intervals_kms : mapping of int to tuple of ndarray, (n,)
        Low and high ends of the posterior's intervals of 68 and 95 per cent, km/s.
    H0_kms_mpc : float
        Hubble constant, km/s/Mpc.

    Returns
    -------
    dict of str to float
        Metric by name. The unit is in the name; slope and coverages are dimensionless.
    """
    v_p_kms = peculiar_velocity_kms(D_z_mpc, D_p_mpc, H0_kms_mpc)
    slope, intercept_kms = line_of_best_fit(v_kms, v_p_kms)
    return {
        "l1_d_mpc": l1(D_mpc, D_p_mpc),
        "l2_d_mpc": l2(D_mpc, D_p_mpc),
        "shift_d_mpc": average_shift(D_mpc, D_p_mpc),
        "l1_dz_mpc": l1(D_z_mpc, D_p_mpc),
        "l2_dz_mpc": l2(D_z_mpc, D_p_mpc),
        "velocity_slope": slope,
        "velocity_intercept_kms": intercept_kms,
        "velocity_rms_kms": l2(v_kms, v_p_kms),
        "posterior_rms_kms": l2(v_kms, v_hat_kms),
        "coverage_68": coverage(v_kms, *intervals_kms[68]),
        "coverage_95": coverage(v_kms, *intervals_kms[95]),
    }


def bootstrap_rows(
    galaxy: NDArray[np.integer], samples: int, rng: np.random.Generator
) -> list[NDArray[np.intp]]:
    """Draw bootstrap samples of galaxies, each with all its images.

    Errors of the four views of a galaxy are correlated; samples of single images would make every
    bootstrap error too small.

    Parameters
    ----------
    galaxy : ndarray, (n,)
        Galaxy of each row.
    samples : int
        Number of bootstrap samples.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    list of ndarray
        One array of row numbers per sample.
    """
    order = np.argsort(galaxy, kind="stable")
    _, starts = np.unique(galaxy[order], return_index=True)
    groups = np.split(order, starts[1:])
    draws = rng.integers(len(groups), size=(samples, len(groups)))
    return [np.concatenate([groups[i] for i in draw]) for draw in draws]


def measures(predicted: dict[str, Array], H0_kms_mpc: float) -> dict[str, float]:
    """Compute all `METRICS` from `peculiar.training.predictions.prediction_columns`."""
    return measure(
        predicted["D_mpc"],
        predicted["D_z_mpc"],
        predicted["D_p_mpc"],
        predicted["v_kms"],
        predicted["v_hat_kms"],
        {
            level: (predicted[f"v_low{level}_kms"], predicted[f"v_high{level}_kms"])
            for level in SIGMAS
        },
        H0_kms_mpc,
    )


def bootstrap_errors(
    predicted: dict[str, Array], H0_kms_mpc: float, samples: int, rng: np.random.Generator
) -> dict[str, float]:
    """Compute the standard deviation of all metrics over bootstrap samples of galaxies.

    Parameters
    ----------
    predicted : dict of str to ndarray, (n,)
        From `peculiar.training.predictions.prediction_columns`.
    H0_kms_mpc : float
        Hubble constant, km/s/Mpc.
    samples : int
        Number of bootstrap samples.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    dict of str to float
        Error of each of `METRICS`, in its unit.
    """
    galaxy = predicted["galaxy"].astype(np.int64)
    measured = [
        measures({key: value[rows] for key, value in predicted.items()}, H0_kms_mpc)
        for rows in bootstrap_rows(galaxy, samples, rng)
    ]
    return {key: float(np.std([sample[key] for sample in measured], ddof=1)) for key in METRICS}
