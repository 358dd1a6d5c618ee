"""What the images that a network was trained on spanned: beyond it, nothing is known of its errors.

Brightness and size are those of the image in its own frame, as a network sees it.
"""

from collections.abc import Mapping, Sequence

import astropy.units as u
import numpy as np
from numpy.typing import NDArray

from peculiar.bands import ARCSEC_RAD, ab_mag
from peculiar.galaxies import Observed
from peculiar.params import Section

Array = NDArray[np.float64]
IMAGES_AT_ONCE = 256


class Validity(Section):
    """Least and greatest values of the training images.

    Attributes
    ----------
    distance_mpc : tuple of float
        Distances, Mpc.
    mag_ab : mapping from band to tuple of float
        Apparent AB magnitudes in the frame, mag.
    half_light_arcsec : tuple of float
        Half-light radii of the mean over bands, arcsec.
    """

    distance_mpc: tuple[float, float]
    mag_ab: Mapping[str, tuple[float, float]]
    half_light_arcsec: tuple[float, float]


def magnitudes(
    images: NDArray[np.float32], bands: Sequence[str], pixel_scale_arcsec: float
) -> Array:
    """Apparent AB magnitudes of all light in the frame.

    Parameters
    ----------
    images : ndarray, (n, band, y, x)
        Surface brightness, W/m/m^2/sr.
    bands : sequence of str, (band,)
        SDSS bands.
    pixel_scale_arcsec : float
        Pixel scale, arcsec.

    Returns
    -------
    ndarray, (n, band)
        AB magnitudes, mag; NaN where there is no light.
    """
    solid_angle = (pixel_scale_arcsec * ARCSEC_RAD) ** 2
    flux = images.sum(axis=(-2, -1), dtype=np.float64) * solid_angle
    columns = [ab_mag(flux[:, k], band) for k, band in enumerate(bands)]
    return np.stack(columns, axis=1)


def half_light_arcsec(images: NDArray[np.float32], pixel_scale_arcsec: float) -> Array:
    """Radius about the middle of the frame that holds half of its light, mean over bands.

    Parameters
    ----------
    images, pixel_scale_arcsec
        See `magnitudes`.

    Returns
    -------
    ndarray, (n,)
        Radii, arcsec; NaN where there is no light.
    """
    y, x = (np.arange(side) - (side - 1) / 2 for side in images.shape[-2:])
    radius = np.hypot(y[:, None], x).ravel()
    outwards = np.argsort(radius, kind="stable")
    light = images.mean(axis=1, dtype=np.float64).reshape(len(images), -1)
    within = np.cumsum(light[:, outwards], axis=1)
    first = np.argmax(within >= within[:, -1:] / 2, axis=1)
    found = radius[outwards][first] * pixel_scale_arcsec
    return np.asarray(np.where(within[:, -1] > 0, found, np.nan))


def validity_of(observed: Observed, split: str = "train") -> Validity:
    """Measure a split of a dataset, a few images at a time."""
    meta, rows = observed.table.meta, observed.rows(split)
    scale, bands = meta["pixel_scale_arcsec"], meta["bands"]
    mags, radii = [], []
    for start in range(0, len(rows), IMAGES_AT_ONCE):
        images = observed.images[rows[start : start + IMAGES_AT_ONCE]]
        mags.append(magnitudes(images, bands, scale))
        radii.append(half_light_arcsec(images, scale))
    mag, radius = np.concatenate(mags), np.concatenate(radii)
    distance = observed.table["distance_mpc"][rows].to_value(u.Mpc)
    return Validity(
        distance_mpc=_ends(distance if meta["range_mpc"] is None else meta["range_mpc"]),
        mag_ab={band: _ends(mag[:, k]) for k, band in enumerate(bands)},
        half_light_arcsec=_ends(radius),
    )


def _ends(values: Array | Sequence[float]) -> tuple[float, float]:
    return float(np.nanmin(values)), float(np.nanmax(values))
