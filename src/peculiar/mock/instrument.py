"""Add seeing, photon noise and dark noise to noise-free images.

The noise is that of an SDSS frame (its data model, "calculating the errors"): in counts (DN) of
one native pixel, variance = (source + sky) / gain + dark variance. All is computed with NumPy on
the CPU, with one generator per image, so results depend neither on the batch nor on a GPU.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import ceil, isfinite, log, sqrt

import numpy as np
from astropy.convolution import Gaussian2DKernel, Moffat2DKernel
from numpy.typing import NDArray

from peculiar.core.photometry import ARCSEC_RAD, GAUSSIAN_FWHM, flux_density, surface_brightness
from peculiar.core.survey import Instrument

LIGHT_BEYOND_KERNEL = 1e-3
SAMPLES_PER_FWHM = 20


def psf_kernel(instrument: Instrument, band: str, pixel_scale_arcsec: float) -> NDArray[np.float64]:
    """Compute the PSF: the light of a point source at the centre of a pixel, in all pixels.

    The profile is a Moffat (1969, A&A 3, 455), I ~ (1 + r^2/alpha^2)^-beta with
    alpha = FWHM / (2 sqrt(2^(1/beta) - 1)), or a Gaussian. It is integrated over each pixel:
    sampled at pixels as wide as the PSF, it would lose its peak and part of its light.

    Parameters
    ----------
    instrument : Instrument
        Camera.
    band : str
        SDSS band.
    pixel_scale_arcsec : float
        Pixel scale, arcsec.

    Returns
    -------
    ndarray, (k, k)
        Fraction of the light, k odd. The sum is one: at most a thousandth of the light lies
        outside the kernel and is shared among its pixels.
    """
    fwhm_pixels = instrument.fwhm_arcsec[band] / pixel_scale_arcsec
    return _kernel(instrument.psf, instrument.moffat_beta, fwhm_pixels)


@lru_cache(maxsize=64)
def _kernel(psf: str, beta: float, fwhm: float) -> NDArray[np.float64]:
    """`psf_kernel` for a FWHM in pixels; cached, since every batch needs the same."""
    if psf == "moffat":
        alpha = fwhm / (2 * sqrt(2 ** (1 / beta) - 1))
        # the light beyond r is (1 + r^2/alpha^2)^(1 - beta)
        radius = alpha * sqrt(LIGHT_BEYOND_KERNEL ** (1 / (1 - beta)) - 1)
        model = Moffat2DKernel
        shape = {"gamma": alpha, "alpha": beta}
    else:
        sigma = fwhm / GAUSSIAN_FWHM
        # the light beyond r is exp(-r^2 / 2 sigma^2)
        radius = sigma * sqrt(-2 * log(LIGHT_BEYOND_KERNEL))
        model, shape = Gaussian2DKernel, {"x_stddev": sigma}
    side = 2 * ceil(radius) + 1
    samples = ceil(SAMPLES_PER_FWHM / fwhm)
    # astropy normalises the sum to one
    kernel: NDArray[np.float64] = model(
        **shape, x_size=side, y_size=side, mode="oversample", factor=samples
    ).array
    kernel.flags.writeable = False
    return kernel


def convolve(
    images: NDArray[np.floating],
    bands: Sequence[str],
    pixel_scale_arcsec: float,
    instrument: Instrument,
) -> NDArray[np.float64]:
    """Convolve images with the PSF of each band; the sky outside the frame is dark.

    Parameters
    ----------
    images : ndarray, (n, band, y, x)
        Any unit per pixel.
    bands, pixel_scale_arcsec, instrument
        See `observe_through`.

    Returns
    -------
    ndarray, (n, band, y, x), float64
        Same unit. Light that the PSF spreads outside the frame is lost.
    """
    from scipy.signal import fftconvolve  # half a second to import, only needed here

    blurred = np.empty(images.shape)
    for column, band in enumerate(bands):
        kernel = psf_kernel(instrument, band, pixel_scale_arcsec)[None]
        layer = images[:, column].astype(np.float64)
        blurred[:, column] = fftconvolve(layer, kernel, mode="same", axes=(-2, -1))
    return blurred


def electrons_per_brightness(instrument: Instrument, band: str, pixel_scale_arcsec: float) -> float:
    """Compute the electrons per pixel and exposure from a surface brightness of 1 W/m/m^2/sr.

    A pixel of solid angle Omega receives I Omega. A source of `count_mag` gives one count, which
    is `gain` electrons.

    Parameters
    ----------
    instrument, band, pixel_scale_arcsec
        See `psf_kernel`.

    Returns
    -------
    float
        Electrons per pixel, per W/m/m^2/sr.
    """
    solid_angle = (pixel_scale_arcsec * ARCSEC_RAD) ** 2
    count = float(flux_density(instrument.count_mag[band], band))
    return instrument.gain[band] * solid_angle / count


def sky_electrons(instrument: Instrument, band: str, pixel_scale_arcsec: float) -> float:
    """Mean electrons of the sky in a pixel, in the exposure."""
    sky = float(surface_brightness(instrument.sky_mag_arcsec2[band], band))
    return electrons_per_brightness(instrument, band, pixel_scale_arcsec) * sky


def dark_electrons(instrument: Instrument, band: str, pixel_scale_arcsec: float) -> float:
    """Standard deviation of dark current and readout in a pixel, electrons.

    A pixel of another size than the camera's counts as a sum of native pixels, each read out once.
    """
    native_pixels = (pixel_scale_arcsec / instrument.native_pixel_arcsec) ** 2
    return instrument.gain[band] * sqrt(instrument.dark_variance[band] * native_pixels)


def sky_noise(instrument: Instrument, band: str, pixel_scale_arcsec: float) -> float:
    """Compute the standard deviation of a pixel of empty sky.

    Parameters
    ----------
    instrument, band, pixel_scale_arcsec
        See `psf_kernel`.

    Returns
    -------
    float
        sqrt(sky + dark^2) / K, in W/m/m^2/sr, with sky and dark in electrons and K of
        `electrons_per_brightness`.
    """
    sky = sky_electrons(instrument, band, pixel_scale_arcsec)
    dark = dark_electrons(instrument, band, pixel_scale_arcsec)
    return sqrt(sky + dark**2) / electrons_per_brightness(instrument, band, pixel_scale_arcsec)


def observe_through(
    images: NDArray[np.floating],
    bands: Sequence[str],
    pixel_scale_arcsec: float,
    instrument: Instrument,
    rngs: Sequence[np.random.Generator],
    margin: int = 0,
) -> NDArray[np.float32]:
    """Observe images through an instrument, and subtract the mean sky.

    With K of `electrons_per_brightness`, a pixel of brightness I has a Poisson number of electrons
    of mean K (I + sky), and Gaussian noise of dark current and readout. The noise has mean zero.
    Where resampling makes K (I + sky) negative, there is no photon noise; I is kept.

    Parameters
    ----------
    images : ndarray, (n, band, y, x)
        Surface brightness without noise, W/m/m^2/sr.
    bands : sequence of str, (band,)
        SDSS bands.
    pixel_scale_arcsec : float
        Pixel scale, arcsec.
    instrument : Instrument
        Camera.
    rngs : sequence of numpy.random.Generator, (n,)
        One per image; its bands are drawn in order.
    margin : int
        Pixels at each edge that are convolved and then cut off.

    Returns
    -------
    ndarray, (n, band, y - 2 margin, x - 2 margin), float32
        Surface brightness, W/m/m^2/sr.

    Raises
    ------
    ValueError
        When `images` does not match `bands` or `rngs`, the pixel scale is not positive, or a
        pixel is not finite.
    """
    _check(images, bands, pixel_scale_arcsec, rngs)
    blurred = convolve(images, bands, pixel_scale_arcsec, instrument)
    y, x = (slice(margin, side - margin) for side in images.shape[-2:])
    seen = blurred[..., y, x]
    if not instrument.noise:
        return seen.astype(np.float32)
    for column, band in enumerate(bands):
        per_brightness = electrons_per_brightness(instrument, band, pixel_scale_arcsec)
        sky = sky_electrons(instrument, band, pixel_scale_arcsec)
        dark = dark_electrons(instrument, band, pixel_scale_arcsec)
        for image, rng in zip(seen[:, column], rngs, strict=True):
            expected = np.clip(per_brightness * image + sky, 0, None)
            noise = rng.poisson(expected) - expected + rng.normal(0, dark, image.shape)
            image += noise / per_brightness
    return seen.astype(np.float32)


def photograph(
    placed: Callable[[int], NDArray[np.float32]],
    pixels: int,
    bands: Sequence[str],
    pixel_scale_arcsec: float,
    instrument: Instrument | None,
    rngs: Sequence[np.random.Generator],
) -> NDArray[np.float32]:
    """Make images of a given side, through an instrument if there is one.

    They are placed with a margin of the width of the PSF; otherwise the dark outside the frame
    would darken its edge.

    Parameters
    ----------
    placed : callable
        Maps a side, pixels, to images (n, band, side, side), W/m/m^2/sr, all with one centre.
    pixels : int
        Side of the output, pixels.
    bands, pixel_scale_arcsec, instrument, rngs
        See `observe_through`.

    Returns
    -------
    ndarray, (n, band, pixels, pixels), float32
        Surface brightness, W/m/m^2/sr.
    """
    if instrument is None:
        return placed(pixels)
    margin = max(len(psf_kernel(instrument, band, pixel_scale_arcsec)) // 2 for band in bands)
    images = placed(pixels + 2 * margin)
    return observe_through(images, bands, pixel_scale_arcsec, instrument, rngs, margin)


def _check(
    images: NDArray[np.floating],
    bands: Sequence[str],
    pixel_scale_arcsec: float,
    rngs: Sequence[np.random.Generator],
) -> None:
    if images.ndim != 4 or images.shape[1] != len(bands):
        raise ValueError(
            f"images must be (n, {len(bands)}, y, x) for the bands {', '.join(bands)}, "
            f"not {images.shape}"
        )
    if len(rngs) != len(images):
        raise ValueError(f"rngs must hold {len(images)} generators, one per image, not {len(rngs)}")
    if not (isfinite(pixel_scale_arcsec) and pixel_scale_arcsec > 0):
        raise ValueError(f"pixel_scale_arcsec must be positive, not {pixel_scale_arcsec}")
    if not np.isfinite(images).all():
        raise ValueError("images must be finite")
