"""Flags of predictions that the training images do not support."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from peculiar.core.photometry import (
    fine_structure,
    half_light_arcsec,
    magnitudes,
    pixel_noise_w_m3_sr,
)
from peculiar.predict.priors import (
    DistancePrior,
    default_prior,
    distance_grid,
    distances_given_image,
    prior_ratio,
)
from peculiar.predict.velocities import VelocityPriors
from peculiar.registry.champion import Champion
from peculiar.runs.validity import Validity
from peculiar.velocity.grid import share_between
from peculiar.velocity.posterior import given_redshift

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
REACH = 3  # deviations of a redshift outside the known distances beyond which none fits
OUTSIDE = 0.95  # probability of a distance outside the range offered (docs/results/limits.md)
TENSION = 3  # deviations between D_p and D_z; chance of 0.3 % for normal errors
# factors by which noise and sharpness may be beyond those of the training images
# (docs/decisions/0037)
WIDENED_NOISE, WIDENED_STRUCTURE = 2.0, 1.5


def beyond(
    champion: Champion, prior: DistancePrior, expected_mpc: Array, spread_mpc: Array
) -> Mask:
    """Which redshifts (n,) no distance of the champion's grid fits that the prior allows.

    p(D | image, D_z) would end in the last such cell, with an error of next to nothing. Distances
    and deviations (n,) are those of `peculiar.predict.velocities.VelocityPriors`.
    """
    if champion.grid_mpc is None and prior.name == "uniform":
        return np.zeros(len(expected_mpc), dtype=bool)  # the posterior has a closed form
    allowed = distance_grid(champion)[prior_ratio(champion, prior) > 0]
    reach = REACH * spread_mpc
    return np.asarray((expected_mpc <= allowed[0] - reach) | (expected_mpc >= allowed[-1] + reach))


def outside_training(
    champion: Champion,
    images: NDArray[np.float32],
    output: Array,
    columns: Mapping[str, Array],
    cz_error_kms: Array,
    prior: DistancePrior,
    velocities: VelocityPriors,
) -> list[tuple[str, ...]]:
    """Flag galaxies that are unlike the training images, or whose prediction does not fit.

    Parameters
    ----------
    champion : Champion
        Its `range_mpc` and `validity`; what they do not state is not flagged.
    images : ndarray, (n, band, pixels, pixels), float32
        Surface brightness, W/m/m^2/sr.
    output : ndarray, (n,) or (n, G)
        What the network gives for them.
    columns : mapping of str to ndarray, (n,)
        From `peculiar.predict.estimate.estimates`.
    cz_error_kms : ndarray, (n,)
        Standard deviations of the redshifts, km/s.
    prior : DistancePrior
        Prior of the predictions.
    velocities : VelocityPriors
        Priors on the velocities.

    Returns
    -------
    list of tuple of str, n
        Flags for each image, see `peculiar.predict.columns.FLAGS`.
    """
    H0, D_p = champion.H0_kms_mpc, columns["D_p"]
    expected = velocities.expected_mpc(columns["D_z"], H0)
    by = velocities.spread_mpc(np.nan_to_num(cz_error_kms), H0)
    spread = velocities.spread_mpc(cz_error_kms, H0)
    flagged: dict[str, Mask] = {
        "cz_beyond": beyond(champion, prior, expected, spread),
        "prior": np.isnan(D_p) & np.isfinite(output.reshape(len(output), -1)).all(axis=1),
        "tension": np.abs(D_p - expected) > TENSION * np.hypot(columns["D_error"], by),
    }
    if champion.range_mpc is not None:
        flagged["distance"] = _distance(champion, output, expected, by, prior)
    if champion.validity is not None:
        flagged |= _unlike(champion, champion.validity, images)
    return [tuple(flag for flag in flagged if flagged[flag][k]) for k in range(len(images))]


def _distance(
    champion: Champion, output: Array, expected_mpc: Array, sigma_mpc: Array, prior: DistancePrior
) -> Mask:
    """Which distances (n,) are almost certainly outside the range offered.

    With the prior chosen, or a flat one: a prior within the range does not make up for an image
    that is not.
    """
    assert champion.range_mpc is not None
    near, far = champion.range_mpc
    grid = distance_grid(champion)
    inside, known = share_between(grid, near, far), np.isfinite(expected_mpc)
    found = ~np.isfinite(output.reshape(len(output), -1)).all(axis=1)
    for chosen in {prior, default_prior(champion)}:
        q = distances_given_image(champion, output, chosen)
        q[known] = given_redshift(q[known], grid, expected_mpc[known], sigma_mpc[known])
        found |= 1 - q @ inside > OUTSIDE
    if grid[0] > near - 1 and grid[-1] < far + 1:  # an older champion, whose grid ends there
        found |= known & ~_within(expected_mpc, near - sigma_mpc, far + sigma_mpc)
    return np.asarray(found)


def _unlike(champion: Champion, validity: Validity, images: NDArray[np.float32]) -> dict[str, Mask]:
    """Brightness, size, noise and sharpness against those of the training images."""
    bands, scale = champion.bands, champion.pixel_scale_arcsec
    mag = magnitudes(images, bands, scale)
    ranges = validity.mag_ab
    found = {
        "brightness": _outside_in_any(mag, [ranges[band] for band in bands]),
        "size": ~_within(half_light_arcsec(images, scale), *validity.half_light_arcsec),
    }
    if validity.pixel_noise_w_m3_sr is not None:
        ends = [validity.pixel_noise_w_m3_sr[band] for band in bands]
        wide = [(low / WIDENED_NOISE, high * WIDENED_NOISE) for low, high in ends]
        found["noise"] = _outside_in_any(pixel_noise_w_m3_sr(images), wide)
    if validity.fine_structure is not None:
        low, high = validity.fine_structure
        structure = fine_structure(images)
        found["psf"] = ~_within(structure, low / WIDENED_STRUCTURE, high * WIDENED_STRUCTURE)
    return found


def _outside_in_any(values: Array, ranges: list[tuple[float, float]]) -> Mask:
    """Which rows (n,) of values (n, band) are outside the range of a band."""
    outside = [~_within(values[:, k], *ends) for k, ends in enumerate(ranges)]
    return np.asarray(np.any(outside, axis=0))


def _within(values: Array, low: Array | float, high: Array | float) -> Mask:
    """Which values are between both ends; NaN is not."""
    return np.asarray((low <= values) & (values <= high))
