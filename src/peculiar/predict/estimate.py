"""Distances and velocities with errors from images and redshifts, and flags that limit trust.

`predict_images` is the one way to predict: notebook, files and catalogues call it, and
`peculiar serve` computes the same distances and errors.
"""

from collections.abc import Mapping, Sequence

import astropy.units as u
import numpy as np
import torch
from astropy.table import QTable
from numpy.typing import ArrayLike, NDArray

from peculiar.core.photometry import SPEED_OF_LIGHT_KMS, half_light_arcsec, magnitudes
from peculiar.predict.columns import COLUMNS, FLAGS, TEXT_COLUMNS
from peculiar.predict.view import View
from peculiar.registry.champion import Champion
from peculiar.velocity.hubble import peculiar_velocity_kms, redshift_distance_mpc
from peculiar.velocity.posterior import moments, velocity_from_distance, velocity_on_grid

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
IMAGES_AT_ONCE = 16  # what a processor's cache holds: twice as fast as 64
REACH = 3  # deviations of a redshift outside the champion's distances beyond which none fits


def predict_images(
    champion: Champion,
    views: Sequence[View],
    cz_kms: ArrayLike,
    cz_error_kms: ArrayLike = 0.0,
) -> QTable:
    """Predict distances and velocities of galaxies.

    Parameters
    ----------
    champion : Champion
        From `peculiar.load_model`.
    views : sequence of View, n
        Images (band, pixels, pixels) in the model's pixels, W/m/m^2/sr, with their flags.
    cz_kms : array_like, (n,) or ()
        Redshifts times the speed of light, km/s; NaN where unknown.
    cz_error_kms : array_like, (n,) or ()
        Their standard deviations, km/s; NaN where unusable.

    Returns
    -------
    QTable, n rows
        `peculiar.predict.columns.COLUMNS`, and `flags`, those of the view and of the prediction
        in the order of `FLAGS`. A row without an image has no numbers. One without a usable
        redshift, or with one that no distance of the champion's grid fits, has no posterior. The
        champion is in `meta`.
    """
    n = len(views)
    cz, error, flags_of_cz = _redshifts(
        np.broadcast_to(cz_kms, n), np.broadcast_to(cz_error_kms, n)
    )
    flags = [{*view.flags} for view in views]
    columns = {name: np.full(n, np.nan) for name in COLUMNS}
    images = [view.image for view in views if view.image is not None]
    rows = np.array([k for k, view in enumerate(views) if view.image is not None], dtype=int)
    if images:
        stack = np.stack(images)
        predicted = estimates(champion, outputs(champion, stack), cz[rows], error[rows])
        for name, values in predicted.items():
            columns[name][rows] = values
        outside = outside_training(champion, stack, predicted, error[rows])
        for k, new in zip(rows, outside, strict=True):
            flags[k] |= {*new}
    for k, flag in flags_of_cz.items():
        if not flags[k] & {"no_cz", "bad_cz"}:  # a catalogue has said which already
            flags[k].add(flag)
    return _table(champion, columns, flags)


def _table(champion: Champion, columns: Mapping[str, Array], flags: Sequence[set[str]]) -> QTable:
    table = QTable(meta=champion.describe())
    for name, column in COLUMNS.items():
        table[name] = columns[name] * u.Unit(column.unit)
    words = [", ".join(flag for flag in FLAGS if flag in present) or "ok" for present in flags]
    table["flags"] = np.array(words, dtype=str)
    for name, column in (COLUMNS | TEXT_COLUMNS).items():
        table[name].info.description = column.description
        table[name].info.format = column.format
    return table


def _redshifts(cz_kms: Array, cz_error_kms: Array) -> tuple[Array, Array, dict[int, str]]:
    """Redshifts and errors (n,), km/s, NaN where they cannot be used, and the flags by row."""
    cz = np.where(np.abs(cz_kms) <= SPEED_OF_LIGHT_KMS, cz_kms, np.nan)
    error = np.where(
        (cz_error_kms >= 0) & (cz_error_kms <= SPEED_OF_LIGHT_KMS), cz_error_kms, np.nan
    )
    unknown, bad = np.isnan(cz_kms), ~np.isfinite(cz + error)
    return (
        cz,
        error,
        {int(k): "no_cz" if unknown[k] else "bad_cz" for k in np.flatnonzero(unknown | bad)},
    )


def outputs(champion: Champion, images: NDArray[np.float32]) -> Array:
    """Run the champion's network over images, a few at a time.

    Parameters
    ----------
    champion : Champion
        The network.
    images : ndarray, (n, band, pixels, pixels), float32
        Surface brightness, W/m/m^2/sr.

    Returns
    -------
    ndarray, (n,) or (n, G)
        Distances, Mpc, or p(D | image).
    """
    pieces = torch.split(torch.as_tensor(images), IMAGES_AT_ONCE)
    with torch.inference_mode():
        return torch.cat([champion.network(piece).double() for piece in pieces]).numpy()


def estimates(
    champion: Champion, output: Array, cz_kms: Array, cz_error_kms: Array
) -> dict[str, Array]:
    """Compute distances and velocities from what the network gives.

    Parameters
    ----------
    champion : Champion
        Its grid, errors, velocity prior and Hubble constant.
    output : ndarray, (n,) or (n, G)
        From `outputs`.
    cz_kms : ndarray, (n,)
        Redshifts times the speed of light, km/s; NaN where unknown.
    cz_error_kms : ndarray, (n,)
        Their standard deviations, km/s; 0 for none.

    Returns
    -------
    dict of str to ndarray, (n,)
        `COLUMNS`. Posteriors are NaN without a redshift, and with one that no distance of the
        champion's grid fits (`beyond`). A champion that gives distances has no grid.
    """
    grid, H0 = champion.grid_mpc, champion.H0_kms_mpc
    if grid is None:
        D_p, D_error = output, np.full(len(output), champion.sigma_D_mpc)
    else:
        D_p, D_error = moments(output, grid)
    D_z = redshift_distance_mpc(cz_kms, H0)
    v_p = peculiar_velocity_kms(D_z, D_p, H0)
    columns = {"D_p": D_p, "D_error": D_error, "D_z": D_z, "v_p": v_p}
    columns |= {name: np.full(len(output), np.nan) for name in COLUMNS if name not in columns}
    fits = np.isfinite(D_z) & np.isfinite(cz_error_kms) & ~beyond(champion, D_z, cz_error_kms)
    if fits.any():
        posterior = _posterior(champion, output[fits], D_z[fits], cz_error_kms[fits])
        for name, values in posterior.items():
            columns[name][fits] = values
    return columns


def _posterior(
    champion: Champion, output: Array, D_z_mpc: Array, cz_error_kms: Array
) -> dict[str, Array]:
    """Columns of the posterior of the peculiar velocity, km/s."""
    grid, sigma_v, H0 = champion.grid_mpc, champion.sigma_v_kms, champion.H0_kms_mpc
    if grid is None:
        sigma_D = champion.sigma_D_mpc
        v = velocity_from_distance(
            output, D_z_mpc, sigma_D, sigma_v, H0, None, cz_error_kms=cz_error_kms
        )
    else:
        v = velocity_on_grid(output, grid, D_z_mpc, sigma_v, H0, cz_error_kms=cz_error_kms)
    lows = {f"v_low{level}": values for level, values in v.low_kms.items()}
    highs = {f"v_high{level}": values for level, values in v.high_kms.items()}
    return {"v_hat": v.mean_kms, "v_error": v.deviation_kms, **lows, **highs}


def beyond(champion: Champion, D_z_mpc: Array, cz_error_kms: Array) -> Mask:
    """Which redshifts (n,) no distance of the champion's grid fits.

    p(D | image, D_z) would end in the last cell of the grid, with an error of next to nothing.
    """
    if champion.grid_mpc is None:
        return np.zeros(len(D_z_mpc), dtype=bool)
    near, far = champion.grid_mpc[0], champion.grid_mpc[-1]
    reach = REACH * np.hypot(champion.sigma_v_kms, cz_error_kms) / champion.H0_kms_mpc
    return np.asarray((D_z_mpc <= near - reach) | (D_z_mpc >= far + reach))


def outside_training(
    champion: Champion,
    images: NDArray[np.float32],
    columns: Mapping[str, Array],
    cz_error_kms: Array,
) -> list[tuple[str, ...]]:
    """Flag galaxies outside the range of the training images.

    Parameters
    ----------
    champion : Champion
        Its `range_mpc` and `validity`; what they do not state is not flagged.
    images : ndarray, (n, band, pixels, pixels), float32
        Surface brightness, W/m/m^2/sr.
    columns : mapping of str to ndarray, (n,)
        From `estimates`.
    cz_error_kms : ndarray, (n,)
        Standard deviations of the redshifts, km/s.

    Returns
    -------
    list of tuple of str, n
        `cz_beyond`, `distance`, `brightness` and `size` for each image, see `FLAGS`.
    """
    D_z = columns["D_z"]
    flagged: dict[str, Mask] = {"cz_beyond": beyond(champion, D_z, cz_error_kms)}
    if champion.range_mpc is not None:
        near, far = champion.range_mpc
        by = np.hypot(champion.sigma_v_kms, np.nan_to_num(cz_error_kms)) / champion.H0_kms_mpc
        flagged["distance"] = _outside(columns["D_p"], near, far) | (
            np.isfinite(D_z) & _outside(D_z, near - by, far + by)
        )
    if champion.validity is not None:
        mag = magnitudes(images, champion.bands, champion.pixel_scale_arcsec)
        ranges = [champion.validity.mag_ab[band] for band in champion.bands]
        outside = [_outside(mag[:, k], *ends) for k, ends in enumerate(ranges)]
        flagged["brightness"] = np.any(outside, axis=0)
        radius = half_light_arcsec(images, champion.pixel_scale_arcsec)
        flagged["size"] = _outside(radius, *champion.validity.half_light_arcsec)
    return [tuple(flag for flag in flagged if flagged[flag][k]) for k in range(len(images))]


def _outside(values: Array, low: Array | float, high: Array | float) -> Mask:
    """Which values are not between both ends; NaN is not."""
    return np.asarray(~((low <= values) & (values <= high)))
