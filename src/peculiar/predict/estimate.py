"""Distances and velocities with errors from images and redshifts, and how far to trust them."""

import numpy as np
import torch
from numpy.typing import NDArray

from peculiar.core.photometry import half_light_arcsec, magnitudes
from peculiar.registry.champion import Champion
from peculiar.velocity.hubble import peculiar_velocity_kms, redshift_distance_mpc
from peculiar.velocity.posterior import SIGMAS, moments, velocity, velocity_on_grid

Array = NDArray[np.float64]
IMAGES_AT_ONCE = 16  # what a processor's cache holds: twice as fast as 64
REACH = 3  # deviations of a redshift beyond the champion's distances at which nothing fits any more
COLUMNS = {
    "D_p": "Mpc",
    "D_error": "Mpc",
    "D_z": "Mpc",
    "v_p": "km / s",
    "v_hat": "km / s",
    "v_error": "km / s",
    **{f"v_{end}{level}": "km / s" for level in SIGMAS for end in ("low", "high")},
}
"""Columns of `estimates` and their units."""


def outputs(champion: Champion, images: NDArray[np.float32] | torch.Tensor) -> Array:
    """What the champion's network gives for images, a few at a time.

    Parameters
    ----------
    champion : Champion
        The network.
    images : ndarray or Tensor, (n, band, y, x), float32
        Surface brightness, W/m/m^2/sr.

    Returns
    -------
    ndarray, (n,) or (n, G)
        Distances, Mpc, or p(D | image).
    """
    pieces = torch.split(torch.as_tensor(images), IMAGES_AT_ONCE)
    with torch.inference_mode():
        given = [champion.network(piece).double() for piece in pieces]
    return torch.cat(given).numpy()


def estimates(
    champion: Champion, output: Array, cz_kms: Array, cz_error_kms: Array
) -> dict[str, Array]:
    """Distances and velocities of galaxies.

    Parameters
    ----------
    champion : Champion
        Its grid, errors, velocity prior and Hubble constant.
    output : ndarray, (n,) or (n, G)
        From `outputs`.
    cz_kms : ndarray, (n,)
        Redshifts times the speed of light, km/s; NaN where unknown.
    cz_error_kms : ndarray, (n,)
        Their deviations, km/s; 0 for none.

    Returns
    -------
    dict of str to ndarray, (n,)
        `COLUMNS`: predicted distance and its error; D_z; the paper's v_p = H0 (D_z - D_p); mean,
        deviation and ends of the central 68.3 and 95.4 per cent intervals of the posterior of v.
        Posteriors are NaN without a redshift, and with one that no distance of the champion's grid
        can have (`beyond`). A champion that gives distances knows of no least and greatest one.
    """
    grid, H0, sigma_v = champion.grid_mpc, champion.H0_kms_mpc, champion.sigma_v_kms
    if grid is None:
        D_p, D_error = output, np.full(len(output), champion.sigma_D_mpc)
    else:
        D_p, D_error = moments(output, grid)
    D_z = redshift_distance_mpc(cz_kms, H0)
    columns = {name: np.full(len(output), np.nan) for name in COLUMNS}
    columns |= {"D_p": D_p, "D_error": D_error, "D_z": D_z}
    columns["v_p"] = peculiar_velocity_kms(D_z, D_p, H0)
    known = np.isfinite(D_z) & np.isfinite(cz_error_kms) & ~beyond(champion, D_z, cz_error_kms)
    if known.any():
        given = {"cz_error_kms": cz_error_kms[known]}
        if grid is None:
            v = velocity(
                output[known], D_z[known], champion.sigma_D_mpc, sigma_v, H0, None, **given
            )
        else:
            v = velocity_on_grid(output[known], grid, D_z[known], sigma_v, H0, **given)
        columns["v_hat"][known], columns["v_error"][known] = v.mean_kms, v.deviation_kms
        for level in SIGMAS:
            columns[f"v_low{level}"][known] = v.low_kms[level]
            columns[f"v_high{level}"][known] = v.high_kms[level]
    return columns


def beyond(champion: Champion, D_z_mpc: Array, cz_error_kms: Array) -> NDArray[np.bool_]:
    """Which redshifts (n,) none of the distances of the champion's grid can have.

    p(D | image) would end in the last cell of the grid, with an error of next to nothing.
    """
    if champion.grid_mpc is None:
        return np.zeros(len(D_z_mpc), dtype=bool)
    near, far = champion.grid_mpc[0], champion.grid_mpc[-1]
    reach = REACH * np.hypot(champion.sigma_v_kms, cz_error_kms) / champion.H0_kms_mpc
    return np.asarray((D_z_mpc <= near - reach) | (D_z_mpc >= far + reach))


def warnings(
    champion: Champion,
    images: NDArray[np.float32],
    columns: dict[str, Array],
    cz_error_kms: Array,
) -> list[tuple[str, ...]]:
    """Flags of galaxies that the champion's training images had no like of.

    Parameters
    ----------
    champion : Champion
        Its `range_mpc` and `validity`; what they do not say is not flagged.
    images : ndarray, (n, band, y, x), float32
        As the network sees them, W/m/m^2/sr.
    columns : dict of str to ndarray, (n,)
        From `estimates`.
    cz_error_kms : ndarray, (n,)
        Deviations of the redshifts, km/s.

    Returns
    -------
    list of tuple of str
        For each image: `distance` where the predicted distance is outside the training range, or
        D_z by more than the deviation of velocities; `cz_beyond` where D_z is so far outside that
        there is no posterior; `brightness` and `size` where those of the image are outside.
    """
    n, D_z = len(images), columns["D_z"]
    found: dict[str, NDArray[np.bool_]] = {"cz_beyond": beyond(champion, D_z, cz_error_kms)}
    if champion.range_mpc is not None:
        near, far = champion.range_mpc
        by = np.hypot(champion.sigma_v_kms, np.nan_to_num(cz_error_kms)) / champion.H0_kms_mpc
        found["distance"] = _outside(columns["D_p"], near, far) | (
            np.isfinite(D_z) & _outside(D_z, near - by, far + by)
        )
    if champion.validity is not None:
        mag = magnitudes(images, champion.bands, champion.pixel_scale_arcsec)
        ends = [champion.validity.mag_ab[band] for band in champion.bands]
        found["brightness"] = np.any([_outside(mag[:, k], *e) for k, e in enumerate(ends)], axis=0)
        radius = half_light_arcsec(images, champion.pixel_scale_arcsec)
        found["size"] = _outside(radius, *champion.validity.half_light_arcsec)
    return [tuple(flag for flag, here in found.items() if here[k]) for k in range(n)]


def _outside(values: Array, low: Array | float, high: Array | float) -> NDArray[np.bool_]:
    """Which values are not between both ends; not a number is not."""
    return np.asarray(~((low <= values) & (values <= high)))
