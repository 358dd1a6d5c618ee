"""Place a simulated galaxy at a distance: resample, crop and dim its image (paper, section 3.1).

Pixel centres of the output are symmetric about the galaxy for any ratio of the pixel scales. There
are two ways to resample:

- With a PSF. Each output pixel is a mean of input pixels under a Gaussian, whose width is such that
  it and the input pixel together have the variance of a Gaussian PSF of fixed angle. The sharpness
  is then the same at every distance, no weight is negative, and a flat field stays flat.
- Without, as the paper may have done. The kernel is the cubic of Keys (1981, IEEE Trans. ASSP 29,
  1153) with a = -0.5. It is widened to the output pixel where the image shrinks, as in PIL,
  `torch.nn.functional.interpolate` with `antialias=True` and torchvision v2. cv2 and torch without
  antialias use a = -0.75 and no widening, which differs by up to a tenth of a galaxy's peak. The
  sharpness of its images changes with distance, which a network can use instead of the galaxy
  (docs/decisions/0040).
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil, log, sqrt
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from peculiar.core.photometry import ARCSEC_RAD
from peculiar.core.survey import Dimming

ILLUSTRIS_CAMERA_MPC = 50.0
BLOCK = 16  # output pixels per matrix product on a CPU
PIECE = 8  # images per thread and task; too few for torch to use threads of its own in `taps`
# output pixels, the input pixels they depend on, and a matrix (output, input)
_Block = tuple[slice, slice, NDArray[np.floating]]
Taps = tuple[Tensor, Tensor]
FWHM = sqrt(8 * log(2))  # of a Gaussian, in deviations
PSF_REACH = 4.5  # deviations beyond which a Gaussian is taken as zero
NARROWEST = 0.5  # deviation, input pixels: a narrower Gaussian would miss the light between them


def arcsec_per_pixel(kpc_per_pixel: Tensor, distance_mpc: Tensor) -> Tensor:
    """Convert a physical pixel scale to an angle, in the small-angle, Euclidean approximation.

    Parameters
    ----------
    kpc_per_pixel : Tensor, (n,)
        Physical pixel scale, kpc.
    distance_mpc : Tensor, (n,)
        Distance, Mpc.

    Returns
    -------
    Tensor, (n,)
        Pixel scale, arcsec.
    """
    return kpc_per_pixel * 1e-3 / distance_mpc / ARCSEC_RAD


def kpc_per_arcsec(distance_mpc: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the length of one arcsec at a distance, small-angle and Euclidean.

    Parameters
    ----------
    distance_mpc : ndarray, any shape
        Distance, Mpc.

    Returns
    -------
    ndarray, same shape
        Length of one arcsec, kpc.
    """
    return distance_mpc * 1e3 * ARCSEC_RAD


@dataclass(frozen=True)
class Kernels:
    """Resampling kernels, one per image.

    Attributes
    ----------
    slope : Tensor, (n,)
        Keys' a, the slope at |x| = 1; a more negative one is sharper.
    width : Tensor, (n,)
        Width relative to the kernel widened to the output pixel; the result is at least one input
        pixel.
    box : Tensor of bool, (n,)
        Where true, average the input pixels whose centres are in the output pixel instead.
    """

    slope: Tensor
    width: Tensor
    box: Tensor

    def __getitem__(self, some: slice) -> Self:
        """Kernels of some of the images."""
        return type(self)(self.slope[some], self.width[some], self.box[some])


def keys_cubic(x: Tensor, a: float | Tensor = -0.5) -> Tensor:
    """Keys' cubic convolution kernel of slope `a` at `x`, any shape; zero beyond |x| = 2."""
    x = x.abs()
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def taps(
    ratio: Tensor,
    size_in: int,
    size_out: int,
    offset: Tensor | None = None,
    kernels: Kernels | None = None,
    psf_fwhm: float | None = None,
) -> Taps:
    """Compute which input pixels of a row make each output pixel, and with which weights.

    Parameters
    ----------
    ratio : Tensor, (n,)
        Input pixels per output pixel.
    size_in, size_out : int
        Pixels in and out.
    offset : Tensor, (n,), optional
        Middle of the output, measured from the middle of the input, input pixels.
    kernels : Kernels, optional
        Kernel of each image; by default Keys' cubic with a = -0.5.
    psf_fwhm : float, optional
        FWHM of the PSF, output pixels, instead of a cubic kernel: see `psf_weights`.

    Returns
    -------
    index : Tensor of int, (n, size_out, t)
        Input pixels within the kernel.
    weight : Tensor, (n, size_out, t)
        Their weights. They sum to one, less the weights outside the input, which are set to zero:
        the sky there is dark. With a PSF they sum to one up to the edge of the input.
    """
    ratio = ratio[:, None, None]
    out = torch.arange(size_out, device=ratio.device, dtype=ratio.dtype)[None, :, None]
    centre = (out - (size_out - 1) / 2) * ratio + (size_in - 1) / 2
    if offset is not None:
        centre = centre + offset[:, None, None]
    if psf_fwhm is not None:
        return psf_weights(centre, ratio, size_in, psf_fwhm)
    slope: float | Tensor = -0.5
    width = pixel = ratio.clamp(min=1.0)
    if kernels is not None:
        slope, times = (k.to(ratio)[:, None, None] for k in (kernels.slope, kernels.width))
        width = (ratio * times).clamp(min=1.0)
    reach = ceil(2 * float(width.max()))  # the kernel is zero there and beyond
    steps = torch.arange(1 - reach, reach + 1, device=ratio.device, dtype=ratio.dtype)
    position = centre.floor() + steps
    weight = keys_cubic((position - centre) / width, slope)
    if kernels is not None:
        mean = ((position - centre).abs() <= pixel / 2).to(weight)
        weight = torch.where(kernels.box.to(ratio.device)[:, None, None], mean, weight)
    weight = weight / weight.sum(dim=-1, keepdim=True)
    inside = (position >= 0) & (position < size_in)
    return position.clamp(0, size_in - 1).long(), weight * inside


def psf_weights(centre: Tensor, ratio: Tensor, size_in: int, psf_fwhm: float) -> Taps:
    """Compute `taps` for a Gaussian PSF.

    The variance of the Gaussian is that of the PSF less that of an input pixel, 1/12, so the light
    of a point source has the second moment of the PSF, wherever in its pixel it lies. A Gaussian
    of half an input pixel is the narrowest: where input pixels are coarser than 0.7 of the FWHM,
    the image is blunter than the PSF.

    Parameters
    ----------
    centre : Tensor, (n, size_out, 1)
        Centre of each output pixel, input pixels from the centre of the first.
    ratio : Tensor, (n, 1, 1)
        Input pixels per output pixel.
    size_in : int
        Pixels in.
    psf_fwhm : float
        FWHM of the PSF, output pixels.

    Returns
    -------
    index, weight : Tensor, (n, size_out, t)
        See `taps`. Weights are shared among the pixels inside the input. They are zero for output
        pixels whose centre is outside.
    """
    sigma = ((psf_fwhm / FWHM * ratio) ** 2 - 1 / 12).clamp(min=NARROWEST**2).sqrt()
    reach = ceil(PSF_REACH * float(sigma.max()))
    steps = torch.arange(1 - reach, reach + 1, device=ratio.device, dtype=ratio.dtype)
    position = centre.floor() + steps
    weight = (-0.5 * ((position - centre) / sigma).square()).exp()
    weight = weight * ((position >= 0) & (position < size_in))
    # nowhere zero: an output pixel far outside has no weights
    weight = weight / weight.sum(dim=-1, keepdim=True).clamp(min=1e-30)
    inside = (centre >= -0.5) & (centre <= size_in - 0.5)
    return position.clamp(0, size_in - 1).long(), weight * inside


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
    centre_offset: Tensor | None = None,
    kernels: Kernels | None = None,
) -> Tensor:
    """Place images of galaxies at given distances.

    The surface brightness of nearby galaxies does not change with distance; the flux falls as D^-2
    because the image shrinks (`physical`). `literal` also multiplies by (50 Mpc / D)^2, so the flux
    falls as D^-4: another reading of "pixel brightnesses were scaled ... using the inverse-square
    law" (paper, section 3.1).

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
    scale_in = arcsec_per_pixel(kpc_per_pixel.double(), distance_mpc.double())
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
    return placed
