"""Place images by other resamplers that lead to the same PSF.

A resampler with another PSF is another instrument, and predictions may change with it. So the PSF
of `peculiar.mock.images.views` is measured, and each other resampler is followed (or preceded) by
the Gaussian that is missing to its variance. One that is wider already is left out.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.special import ndtr

from peculiar.core.survey import Survey
from peculiar.mock.images import ratio_of, views
from peculiar.mock.instrument import photograph
from peculiar.mock.kernels import Kernels
from peculiar.mock.resample import dimming_of

Array = NDArray[np.float64]
Images = NDArray[np.float32]
Placed = Callable[[int], Images]
DEVICE = torch.device("cpu")
PROBE_SIGMA = 3.0  # raw pixels: the deviation of the blob that a PSF is measured with
FINE_RAW = 0.5  # raw pixels^2: the least variance before which a spline would fold frequencies
REACH = 4.0  # deviations to which a Gaussian is computed


def kernels_of(size: int, *, box: bool) -> Kernels:
    """Keys' cubic with a = -0.5, as in the paper, or the mean of the raw pixels inside a pixel."""
    ones = torch.ones(size, dtype=torch.float64)
    return Kernels(-0.5 * ones, ones, torch.full((size,), box))


def bare(
    raw: Images, kpc_per_pixel: Array, distance_mpc: Array, survey: Survey, kernels: Kernels | None
) -> Placed:
    """`views` of one galaxy without its instrument, as a function of the side, pixels.

    Kernels take the place of the survey's PSF.
    """
    psf = survey.psf_fwhm_arcsec if kernels is None else None
    own = survey.model_copy(update={"instrument": None, "psf_fwhm_arcsec": psf})
    offset = np.zeros((len(raw), 2))
    return lambda side: np.asarray(
        views(
            raw, kpc_per_pixel, distance_mpc, offset, side, own, [], DEVICE, kernels=kernels
        ).numpy()
    )


def psf_variance(
    kpc_per_pixel: float, distance_mpc: float, survey: Survey, *, box: bool | None = None
) -> float:
    """Variance along an axis that placing adds, output pixels^2.

    A Gaussian blob is placed, and its second moment measured.

    Parameters
    ----------
    kpc_per_pixel, distance_mpc : float
        Raw pixel scale, kpc, and distance, Mpc.
    survey : Survey
        Its instrument is not used.
    box : bool, optional
        Kernel of `kernels_of`; by default that of `views`.

    Returns
    -------
    float
    """
    ratio = float(ratio_of(np.array(kpc_per_pixel), np.array(distance_mpc), survey))
    sigma = max(PROBE_SIGMA, PROBE_SIGMA * ratio)
    half = int(np.ceil(8 * sigma + 8 * ratio))
    edges = np.arange(2 * half + 1) - half
    line = np.diff(ndtr(edges / sigma))
    image = np.outer(line, line).astype(np.float32)[None, None].repeat(len(survey.bands), axis=1)
    side = 2 * int(half / ratio)
    kernels = None if box is None else kernels_of(1, box=box)
    scales = np.array([kpc_per_pixel]), np.array([distance_mpc])
    placed = bare(image, *scales, survey, kernels)(side)[0, 0].astype(float)
    x = np.arange(side) - (side - 1) / 2
    profile = placed.sum(axis=0)
    before = (line @ (edges[:-1] + 0.5) ** 2) / line.sum() / ratio**2
    return float(profile @ x**2 / profile.sum() - before)


def then_gaussian(placed: Placed, variance: Array) -> Placed:
    """Follow a resampler by Gaussians of variances (n,), output pixels^2, free of edges."""

    def smoothed(side: int) -> Images:
        margin = int(np.ceil(REACH * np.sqrt(variance.max()))) + 1
        images = placed(side + 2 * margin)
        for image, own in zip(images, variance, strict=True):
            sigma = np.sqrt(max(own, 0.0))
            image[:] = gaussian_filter(image, (0, sigma, sigma), mode="constant", truncate=REACH)
        return images[..., margin:-margin, margin:-margin]

    return smoothed


def by_spline(
    raw: Images, kpc_per_pixel: Array, distance_mpc: Array, survey: Survey, variance: Array
) -> Placed:
    """Gaussians of variances (n,), output pixels^2, on raw pixels, then SciPy's cubic spline."""
    ratio = ratio_of(kpc_per_pixel, distance_mpc, survey)
    redshift = survey.law.redshift(distance_mpc)
    dimmed = np.ones_like(ratio) if redshift is None else dimming_of(redshift)

    def placed(side: int) -> Images:
        out = np.empty((*raw.shape[:2], side, side), np.float32)
        for image, own, scale, factor, target in zip(
            raw, variance, ratio, dimmed, out, strict=True
        ):
            at = (np.arange(side) - (side - 1) / 2) * scale + (raw.shape[-1] - 1) / 2
            where = np.stack(np.meshgrid(at, at, indexing="ij"))
            sigma = np.sqrt(own) * scale
            smooth = gaussian_filter(
                image.astype(float), (0, sigma, sigma), mode="constant", truncate=REACH
            )
            for band, plane in enumerate(smooth):
                target[band] = factor * map_coordinates(plane, where, order=3, mode="constant")
        return out

    return placed


def resampled(
    raw: Images,
    kpc_per_pixel: Array,
    distance_mpc: Array,
    survey: Survey,
    rngs: Callable[[], list[np.random.Generator]],
) -> Iterator[tuple[str, Images]]:
    """Images of one galaxy placed by each other resampler that can reach the PSF of `views`.

    Parameters
    ----------
    raw : ndarray, (n, band, y, x), float32
        Surface brightness, W/m/m^2/sr.
    kpc_per_pixel, distance_mpc : ndarray, (n,)
        Raw pixel scale, kpc, and distance, Mpc.
    survey : Survey
        Bands, pixels and instrument; its dimming is physical, for which resamplers suffice.
    rngs : callable
        Returns the generators of the noise, the same in each call.

    Yields
    ------
    name : str
        Of the resampler.
    images : ndarray, (n, band, pixels, pixels), float32
        Surface brightness, W/m/m^2/sr.
    """
    scales = list(zip(kpc_per_pixel.tolist(), distance_mpc.tolist(), strict=True))
    whole = np.array([psf_variance(*scale, survey) for scale in scales])
    ratio = ratio_of(kpc_per_pixel, distance_mpc, survey)
    placed: dict[str, Placed] = {}
    for name, box in (("cubic", False), ("box", True)):
        missing = whole - np.array([psf_variance(*scale, survey, box=box) for scale in scales])
        if (missing > -1e-3).all():
            kernels = kernels_of(len(raw), box=box)
            own = bare(raw, kpc_per_pixel, distance_mpc, survey, kernels)
            placed[name] = then_gaussian(own, missing) if (missing > 1e-3).any() else own
    if (whole * ratio**2 >= FINE_RAW).all():
        placed["SciPy's spline"] = by_spline(raw, kpc_per_pixel, distance_mpc, survey, whole)
    for name, of_side in placed.items():
        yield (
            f"resampler: {name}",
            photograph(
                of_side,
                survey.pixels,
                survey.bands,
                survey.pixel_scale_arcsec,
                survey.instrument,
                rngs(),
            ),
        )
