"""The SDSS bands: their order, their names in each file format, wavelengths and zero points."""

from collections.abc import Sequence
from math import log, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BANDS = ("u", "g", "r", "i", "z")

SUNRISE_FILTERS = {band: f"{band}_SDSS.res" for band in BANDS}
"""Names in the FILTERS table of Illustris SUNRISE files (Torrey et al. 2015, MNRAS 447, 2753)."""

SKIRT_FILTERS = {band: f"sloan/sdss_{band}" for band in BANDS}
"""Values of FILTER0, FILTER1, ... in TNG SKIRT files (Rodriguez-Gomez et al. 2019)."""

PIVOT_WAVELENGTH_M = {
    "u": 3.5893e-7,
    "g": 4.7014e-7,
    "r": 6.1772e-7,
    "i": 7.4965e-7,
    "z": 8.9042e-7,
}
"""Pivot wavelengths in metres, of the filters of Doi et al. (2010, AJ 139, 1628);
printed by `peculiar.galaxies.standin.make_ssp_table`."""

EQUIVALENT_WIDTH_M = {"u": 5.097e-8, "g": 1.163e-7, "r": 1.108e-7, "i": 1.100e-7, "z": 1.089e-7}
"""Integral of the response over its peak, in metres; same source as the pivot wavelengths."""

SKIRT_ZEROPOINT_AB = {"g": 25.93, "r": 25.92, "i": 25.49, "z": 23.54}
"""AB magnitude of one count/s in a TNG SKIRT file: photons through the SDSS filters (Fukugita et
al. 1996, as shipped by astro-sedpy) on an unobstructed aperture of 2.5 m. The files do not state
it. The colours of the genuine files (g-r 0.80, r-i 0.31, i-z 0.26 for a massive galaxy) agree with
it; the common factor, the collecting area, is an assumption."""

GAUSSIAN_FWHM = sqrt(8 * log(2))
"""Full width at half maximum of a Gaussian, in deviations."""

MPC_M = 3.085_677_581_491_367e22
KPC_M = MPC_M * 1e-3
TEN_PARSEC_KPC = 0.01
ARCSEC_RAD = np.pi / (180 * 3600)
SPEED_OF_LIGHT_MS = 299_792_458.0
SPEED_OF_LIGHT_KMS = SPEED_OF_LIGHT_MS * 1e-3


def flux_density(mag_ab: NDArray[np.floating] | float, band: str) -> NDArray[np.floating]:
    """Convert an AB magnitude to flux per unit wavelength at the band's pivot wavelength.

    Parameters
    ----------
    mag_ab : array_like, any shape
        AB magnitude (Oke & Gunn 1983, ApJ 266, 713), mag.
    band : str
        One of `BANDS`.

    Returns
    -------
    ndarray, same shape
        f_lambda, W/m^2/m.
    """
    f_nu = 3631e-26 * 10 ** (-0.4 * np.asarray(mag_ab))
    return f_nu * SPEED_OF_LIGHT_MS / PIVOT_WAVELENGTH_M[band] ** 2


def ab_mag(f_lambda: NDArray[np.floating] | float, band: str) -> NDArray[np.floating]:
    """Convert flux per unit wavelength to an AB magnitude: the inverse of `flux_density`.

    Parameters
    ----------
    f_lambda : array_like, any shape
        f_lambda, W/m^2/m.
    band : str
        One of `BANDS`.

    Returns
    -------
    ndarray, same shape
        AB magnitude, mag; NaN where the flux is not positive.
    """
    ratio = np.asarray(f_lambda, dtype=float) / flux_density(0.0, band)
    return -2.5 * np.log10(np.where(ratio > 0, ratio, np.nan))


def surface_brightness(
    mag_arcsec2: NDArray[np.floating] | float, band: str
) -> NDArray[np.floating]:
    """Convert AB mag/arcsec^2 to the unit of our images, W/m/m^2/sr.

    Parameters
    ----------
    mag_arcsec2 : array_like, any shape
        Surface brightness, AB mag/arcsec^2.
    band : str
        One of `BANDS`.

    Returns
    -------
    ndarray, same shape
        Surface brightness, W/m/m^2/sr.
    """
    return flux_density(mag_arcsec2, band) / ARCSEC_RAD**2


def magnitudes(
    images: NDArray[np.float32], bands: Sequence[str], pixel_scale_arcsec: float
) -> Array:
    """Measure the apparent AB magnitudes of all light in the frame.

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
    """Measure the radius about the middle of the frame that holds half of its light.

    The light is the mean over bands.

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


Band = Literal["u", "g", "r", "i", "z"]


def pixel_noise_w_m3_sr(images: NDArray[np.float32]) -> Array:
    """Measure the noise of single pixels, by differences that a smooth galaxy does not have.

    The filter [[1, -2, 1], [-2, 4, -2], [1, -2, 1]] takes away whatever is linear in x or y and
    makes white noise six times larger (Immerkaer 1996, CVIU 64, 300). The median of its absolute
    value, over the median of a normal variable, 0.6745, ignores the galaxy's core and stars.

    Parameters
    ----------
    images : ndarray, (n, band, y, x)
        Surface brightness, W/m/m^2/sr.

    Returns
    -------
    ndarray, (n, band)
        Standard deviation, W/m/m^2/sr; NaN for frames of less than three pixels.
    """
    if min(images.shape[-2:]) < 3:
        return np.full(images.shape[:2], np.nan)
    across = np.diff(images.astype(np.float64), n=2, axis=-1)
    both = np.abs(np.diff(across, n=2, axis=-2))
    return np.asarray(np.median(both, axis=(-2, -1)) / (6 * 0.6745))


def fine_structure(images: NDArray[np.float32]) -> Array:
    """Measure how sharp the bright parts of images are, against a pixel.

    Of the second differences along x and y, the mean square between neighbours is divided by
    that between next-but-one pixels, where the mean over bands is above a tenth of its peak. The
    quotient is 1/16 where the image changes slowly from pixel to pixel and 1 for white noise; it
    is scaled to 0 and 1. A PSF lowers it.

    Parameters
    ----------
    images : ndarray, (n, band, y, x)
        Surface brightness, W/m/m^2/sr.

    Returns
    -------
    ndarray, (n,)
        From 0 for smooth to 1 for white noise; NaN where there is no light, and for frames of less
        than five pixels.
    """
    if min(images.shape[-2:]) < 5:
        return np.full(len(images), np.nan)
    light = images.mean(axis=1, dtype=np.float64)
    middle = light[:, 2:-2, 2:-2]
    bright = middle > 0.1 * middle.max(axis=(-2, -1), keepdims=True)

    def squares(step: int) -> Array:
        """Sum of squared second differences over `step` pixels at the bright pixels, (n,)."""
        there, back = slice(2 + step, -2 + step or None), slice(2 - step, -2 - step)
        x = light[:, 2:-2, there] + light[:, 2:-2, back] - 2 * middle
        y = light[:, there, 2:-2] + light[:, back, 2:-2] - 2 * middle
        return np.asarray(np.where(bright, x**2 + y**2, 0).sum(axis=(-2, -1)))

    wide = squares(2)
    quotient = squares(1) / np.where(wide > 0, wide, np.nan)
    lit = middle.max(axis=(-2, -1)) > 0
    return np.asarray(np.where(lit, (16 * quotient - 1) / 15, np.nan))
