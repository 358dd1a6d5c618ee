"""Put a simulated galaxy at a distance: resample on the sky, crop, dim (paper, section 3.1).

The output frame is sampled exactly: pixel centres are symmetric about the galaxy, whatever the
ratio of the scales. The kernel is Keys' cubic with a = -0.5 (Keys 1981, IEEE Trans. ASSP 29, 1153),
widened to the output pixel where the image shrinks, as in PIL, `torch.nn.functional.interpolate`
with `antialias=True` and torchvision v2; cv2 and plain torch use a = -0.75 without widening, which
differs by up to a tenth of a galaxy's peak.
"""

import warnings
from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from peculiar.bands import ARCSEC_RAD

Dimming = Literal["physical", "literal"]
ILLUSTRIS_CAMERA_MPC = 50.0


def best_device() -> torch.device:
    """The GPU when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def arcsec_per_pixel(kpc_per_pixel: Tensor, distance_mpc: Tensor) -> Tensor:
    """Angle that a pixel of a simulated image spans at a distance, small-angle and Euclidean.

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
    """Length that spans one arcsec at a distance, small-angle and Euclidean.

    Parameters
    ----------
    distance_mpc : ndarray, any shape
        Distance, Mpc.

    Returns
    -------
    ndarray, same shape
        kpc per arcsec.
    """
    return distance_mpc * 1e3 * ARCSEC_RAD


@dataclass(frozen=True)
class Kernels:
    """Kernels to resample with, one an image.

    Attributes
    ----------
    slope : Tensor, (n,)
        Keys' a, the slope at |x| = 1: the more negative, the sharper.
    width : Tensor, (n,)
        Times that of the kernel which is widened to the output pixel; never narrower than an
        input pixel.
    box : Tensor of bool, (n,)
        Take the mean of the input pixels whose centres are in the output pixel instead.
    """

    slope: Tensor
    width: Tensor
    box: Tensor


def keys_cubic(x: Tensor, a: float | Tensor = -0.5) -> Tensor:
    """Keys' cubic convolution kernel of slope a, which is zero beyond |x| = 2."""
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
) -> tuple[Tensor, Tensor]:
    """Which pixels of a row make each output pixel, at a scale of its own for each image.

    Parameters
    ----------
    ratio : Tensor, (n,)
        Input pixels per output pixel.
    size_in, size_out : int
        Pixels in and out.
    offset : Tensor, (n,), optional
        What becomes the middle of the output, from the middle of the input, input pixels.
    kernels : Kernels, optional
        Of each image; without, the module's.

    Returns
    -------
    index : Tensor of int, (n, size_out, t)
        Input pixels, in reach of the kernel.
    weight : Tensor, (n, size_out, t)
        Their weights, which sum to one over an endless input: beyond the input's edge the sky is
        dark, and weights there are zero.
    """
    ratio = ratio[:, None, None]
    out = torch.arange(size_out, device=ratio.device, dtype=ratio.dtype)[None, :, None]
    centre = (out - (size_out - 1) / 2) * ratio + (size_in - 1) / 2
    if offset is not None:
        centre = centre + offset[:, None, None]
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


def _sparse(index: Tensor, weight: Tensor, bands: int, size_in: int) -> Tensor:
    """One sparse matrix (n band size_out, n band size_in) that resamples all images and bands."""
    n, size_out, t = index.shape
    blocks = torch.arange(n * bands).view(n, bands, 1, 1) * size_in
    columns = (index[:, None] + blocks).flatten()
    values = weight[:, None].expand(n, bands, size_out, t).flatten()
    rows = torch.arange(0, len(columns) + 1, t)
    shape = (n * bands * size_out, n * bands * size_in)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "Sparse CSR tensor support is in beta"
        return torch.sparse_csr_tensor(rows, columns, values, shape, check_invariants=False)


def _dense(index: Tensor, weight: Tensor, size_in: int) -> Tensor:
    """Matrices (n, 1, size_out, size_in), of which a GPU multiplies the zeros faster than not."""
    matrix = torch.zeros(*index.shape[:2], size_in, device=weight.device, dtype=weight.dtype)
    return matrix.scatter_add_(-1, index, weight)[:, None]


def resample(images: Tensor, rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor]) -> Tensor:
    """Apply `taps` along y and x.

    On a CPU, sparse matrices are three times as fast as dense ones; both give the same to rounding.

    Parameters
    ----------
    images : Tensor, (n, band, y, x)
        Images.
    rows, columns : tuple of Tensor
        From `taps`, for y and x.

    Returns
    -------
    Tensor, (n, band, y out, x out)
    """
    n, bands, size_y, size_x = images.shape
    if images.is_cuda or not torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
        across = _dense(*columns, size_x).transpose(-1, -2)
        return _dense(*rows, size_y) @ images @ across
    flat = images.reshape(n * bands * size_y, size_x)
    placed = (_sparse(*rows, bands, size_y) @ flat).view(n * bands, -1, size_x)
    flat = placed.transpose(-1, -2).reshape(n * bands * size_x, -1)
    placed = _sparse(*columns, bands, size_x) @ flat
    return placed.view(n, bands, columns[0].shape[1], -1).transpose(-1, -2).contiguous()


def place(
    images: Tensor,
    kpc_per_pixel: Tensor,
    distance_mpc: Tensor,
    *,
    pixels: int,
    pixel_scale_arcsec: float,
    dimming: Dimming,
    centre_offset: Tensor | None = None,
    kernels: Kernels | None = None,
) -> Tensor:
    """Images of galaxies as seen from given distances.

    Surface brightness does not change with distance for nearby galaxies, so that shrinking on the
    sky alone makes the flux fall as D^-2 (`physical`). `literal` multiplies by (50 Mpc / D)^2 once
    more, the other reading of "pixel brightnesses were scaled ... using the inverse-square law"
    (paper, section 3.1), which makes the flux fall as D^-4.

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
    centre_offset : Tensor, (n, 2), optional
        x and y of the galaxy from the middle of the input, input pixels; the galaxy comes to the
        middle of the output. Without it, it is at the middle already.
    kernels : Kernels, optional
        To resample with; without, the module's.

    Returns
    -------
    Tensor, (n, band, pixels, pixels), float32
        Surface brightness, W/m/m^2/sr; zero beyond the input's field of view.

    Raises
    ------
    ValueError
        For a distance or pixel scale that is not positive and finite.
    """
    for name, value in (("distance_mpc", distance_mpc), ("kpc_per_pixel", kpc_per_pixel)):
        if not bool((torch.isfinite(value) & (value > 0)).all()):
            raise ValueError(f"{name} must be positive and finite")
    # weights in float64 would double the cost; float32 positions are good to 1e-5 pixel here
    scale_in = arcsec_per_pixel(kpc_per_pixel.double(), distance_mpc.double())
    ratio = (pixel_scale_arcsec / scale_in).to(images.dtype)
    x, y = (None, None) if centre_offset is None else centre_offset.to(ratio).unbind(-1)
    rows = taps(ratio, images.shape[-2], pixels, y, kernels)
    index, weight = taps(ratio, images.shape[-1], pixels, x, kernels)
    # only what is seen of each row: the rest would be resampled along y for nothing
    first, last = int(index.min()), int(index.max())
    placed = resample(images[..., first : last + 1], rows, (index - first, weight))
    if dimming == "literal":
        factor = (ILLUSTRIS_CAMERA_MPC / distance_mpc) ** 2
        placed = placed * factor.to(placed.dtype)[:, None, None, None]
    return placed
