"""Place a simulated galaxy at a distance: resample, crop and dim its image (paper, section 3.1).

Pixel centres of the output are symmetric about the galaxy for any ratio of the pixel scales. Each
output pixel is a weighted mean of input pixels, with a PSF or with a cubic kernel
(`peculiar.mock.kernels`).
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from peculiar.core.photometry import ARCSEC_RAD
from peculiar.core.survey import Dimming
from peculiar.mock.kernels import Kernels, Taps, taps

ILLUSTRIS_CAMERA_MPC = 50.0
BLOCK = 16  # output pixels per matrix product on a CPU
PIECE = 8  # images per thread and task; too few for torch to use threads of its own in `taps`
# output pixels, the input pixels they depend on, and a matrix (output, input)
Values = TypeVar("Values", NDArray[np.float64], Tensor)
_Block = tuple[slice, slice, NDArray[np.floating]]


def arcsec_per_pixel(
    kpc_per_pixel: Tensor, distance_mpc: Tensor, redshift: Tensor | None = None
) -> Tensor:
    """Convert a physical pixel scale to a small angle.

    Parameters
    ----------
    kpc_per_pixel : Tensor, (n,)
        Physical pixel scale, kpc.
    distance_mpc : Tensor, (n,)
        Comoving distance, Mpc.
    redshift : Tensor, (n,), optional
        By which angles are larger than by Euclid's rules, 1 + z times.

    Returns
    -------
    Tensor, (n,)
        Pixel scale, arcsec.
    """
    euclid = kpc_per_pixel * 1e-3 / distance_mpc / ARCSEC_RAD
    return euclid if redshift is None else euclid * (1 + redshift)


def kpc_per_arcsec(
    distance_mpc: NDArray[np.float64], redshift: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Compute the length of one arcsec at a distance.

    Parameters
    ----------
    distance_mpc : ndarray, any shape
        Comoving distance, Mpc.
    redshift : ndarray, same shape, optional
        See `arcsec_per_pixel`.

    Returns
    -------
    ndarray, same shape
        Length of one arcsec, kpc.
    """
    euclid = distance_mpc * 1e3 * ARCSEC_RAD
    return euclid if redshift is None else euclid / (1 + redshift)


def dimming_of(redshift: Values) -> Values:
    """Factor (n,) of surface brightness at redshifts (n,), in all light (Tolman 1930)."""
    return (1 + redshift) ** -4


def _dense(index: Tensor, weight: Tensor, size_in: int) -> Tensor:
    """Matrices (n, 1, size_out, size_in); a GPU is faster with their zeros than without."""
    matrix = torch.zeros(*index.shape[:2], size_in, device=weight.device, dtype=weight.dtype)
    return matrix.scatter_add_(-1, index, weight)[:, None]


def _banded(index: Tensor, weight: Tensor) -> list[list[_Block]]:
    """Matrices of `taps` for each image, cut into blocks of output pixels."""
    at, weights = index.numpy(), weight.numpy()
    n, size_out, _ = at.shape
    starts = np.arange(0, size_out, BLOCK)
    first = at[:, starts, 0]  # the input pixels grow along the output, and along the taps
    last = at[:, np.minimum(starts + BLOCK, size_out) - 1, -1] + 1
    shape = n, size_out, int((last - first).max())
    row = np.arange(n * size_out).reshape(n, size_out, 1) * shape[-1]
    place = row + at - np.repeat(first, BLOCK, axis=1)[:, :size_out, None]
    # summed, since pixels outside the input, of weight zero, share the place of the edge pixel
    sums = np.bincount(place.ravel(), weights.ravel(), minlength=int(np.prod(shape)))
    matrices = sums.astype(weights.dtype).reshape(shape)
    return [
        [
            (slice(out, out + BLOCK), slice(low, high), matrix[out : out + BLOCK, : high - low])
            for out, low, high in zip(starts.tolist(), lows, highs, strict=True)
        ]
        for matrix, lows, highs in zip(matrices, first.tolist(), last.tolist(), strict=True)
    ]


def _by_blocks(
    images: NDArray[np.floating], rows: Taps, columns: Taps, placed: NDArray[np.floating]
) -> None:
    """`resample_images` on a CPU: block by block, so that each product fits into the cache."""
    downs = _banded(*rows)
    acrosses = downs if columns is rows else _banded(*columns)
    for image, down, across, out in zip(images, downs, acrosses, placed, strict=True):
        left, right = across[0][1].start, across[-1][1].stop
        between = np.empty((*out.shape[:2], right - left), dtype=image.dtype)
        # NumPy's products of small matrices take half the time of torch's
        for made, seen, matrix in down:
            np.matmul(matrix, image[:, seen, left:right], out=between[:, made])
        # one product for the rows of all bands, which saves a fifth of the time
        lines, placed_lines = between.reshape(-1, right - left), out.reshape(-1, out.shape[-1])
        for made, seen, matrix in across:
            part = lines[:, seen.start - left : seen.stop - left]
            np.matmul(part, matrix.T, out=placed_lines[:, made])


def _by_matrices(images: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """`resample_images` on a GPU, by complete matrices."""
    # only the input columns that are used
    index, weight = columns
    first, last = int(index.min()), int(index.max())
    across = _dense(index - first, weight, last + 1 - first).transpose(-1, -2)
    return _dense(*rows, images.shape[-2]) @ images[..., first : last + 1] @ across


def resample_images(
    images: Tensor, axes: Callable[[slice], tuple[Taps, Taps]], pixels: int
) -> Tensor:
    """Resample images (n, band, y, x) to (n, band, pixels, pixels).

    `axes` maps a slice of the images to the `taps` of their rows and columns. A GPU multiplies
    complete matrices; a CPU multiplies only the bands along their diagonals, with some images per
    thread. Both agree to rounding (docs/decisions/0028).
    """
    if images.is_cuda:
        return _by_matrices(images, *axes(slice(None)))
    placed = torch.empty(*images.shape[:2], pixels, pixels, dtype=images.dtype)

    def make(some: slice) -> None:
        _by_blocks(images[some].numpy(), *axes(some), placed[some].numpy())

    pieces = [slice(start, start + PIECE) for start in range(0, len(images), PIECE)]
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        deque(pool.map(make, pieces), maxlen=0)  # raises the errors of the threads
    return placed


def place(
    images: Tensor,
    kpc_per_pixel: Tensor,
    distance_mpc: Tensor,
    *,
    pixels: int,
    pixel_scale_arcsec: float,
    dimming: Dimming,
    psf_fwhm_arcsec: float | None,
    redshift: Tensor | None = None,
    centre_offset: Tensor | None = None,
    kernels: Kernels | None = None,
) -> Tensor:
    """Place images of galaxies at given distances.

    The surface brightness of nearby galaxies does not change with distance; the flux falls as D^-2
    because the image shrinks (`physical`). `literal` also multiplies by (50 Mpc / D)^2, so the flux
    falls as D^-4: another reading of "pixel brightnesses were scaled ... using the inverse-square
    law" (paper, section 3.1). With redshifts images are larger by 1 + z and fainter by (1 + z)^4;
    the shift of the spectrum through the bands (K-correction) is not made.

    Parameters
    ----------
    images : Tensor, (n, band, y, x), float32
        Surface brightness, W/m/m^2/sr.
    kpc_per_pixel : Tensor, (n,)
        Physical pixel scale, kpc.
    distance_mpc : Tensor, (n,)
        Distances, Mpc.
    pixels : int
        Side of the output, pixels.
    pixel_scale_arcsec : float
        Pixel scale of the output, arcsec.
    dimming : {"physical", "literal"}
        See above.
    psf_fwhm_arcsec : float or None
        FWHM of the Gaussian PSF of the result, pixels included, arcsec; None for the cubic kernel.
    redshift : Tensor, (n,), optional
        Cosmological redshifts; by default images are placed by Euclid's rules.
    centre_offset : Tensor, (n, 2), optional
        x and y of the galaxy from the middle of the input, input pixels; by default 0. The galaxy
        is moved to the middle of the output.
    kernels : Kernels, optional
        Cubic kernels; by default Keys' with a = -0.5.

    Returns
    -------
    Tensor, (n, band, pixels, pixels), float32
        Surface brightness, W/m/m^2/sr; zero outside the field of view of the input.

    Raises
    ------
    ValueError
        For a distance or pixel scale that is not positive and finite, or both a PSF and kernels.
    """
    if psf_fwhm_arcsec is not None and kernels is not None:
        raise ValueError("kernels are for images without a PSF")
    for name, value in (("distance_mpc", distance_mpc), ("kpc_per_pixel", kpc_per_pixel)):
        if not bool((torch.isfinite(value) & (value > 0)).all()):
            raise ValueError(f"{name} must be positive and finite")
    # float64 weights would double the cost; float32 positions are accurate to 1e-5 pixel
    scale_in = arcsec_per_pixel(kpc_per_pixel.double(), distance_mpc.double(), redshift)
    ratio = (pixel_scale_arcsec / scale_in).to(images.dtype)
    offset = torch.zeros(len(ratio), 2) if centre_offset is None else centre_offset
    offset = offset.to(ratio).expand(len(ratio), 2)
    size_y, size_x = images.shape[-2:]
    psf = None if psf_fwhm_arcsec is None else psf_fwhm_arcsec / pixel_scale_arcsec

    def axes(some: slice) -> tuple[Taps, Taps]:
        own = None if kernels is None else kernels[some]
        x, y = offset[some].unbind(-1)
        rows = taps(ratio[some], size_y, pixels, y, own, psf)
        if size_x == size_y and torch.equal(x, y):
            return rows, rows
        return rows, taps(ratio[some], size_x, pixels, x, own, psf)

    placed = resample_images(images, axes, pixels)
    if dimming == "literal":
        factor = (ILLUSTRIS_CAMERA_MPC / distance_mpc) ** 2
        placed = placed * factor.to(placed.dtype)[:, None, None, None]
    if redshift is not None:
        placed = placed * dimming_of(redshift).to(placed.dtype)[:, None, None, None]
    return placed
