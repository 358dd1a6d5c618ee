"""Put a simulated galaxy at a distance: resample on the sky, crop, dim (paper, section 3.1).

The output frame is sampled exactly: pixel centres are symmetric about the galaxy, whatever the
ratio of the scales. The kernel is Keys' cubic with a = -0.5 (Keys 1981, IEEE Trans. ASSP 29, 1153),
widened to the output pixel where the image shrinks, as in PIL, `torch.nn.functional.interpolate`
with `antialias=True` and torchvision v2; cv2 and plain torch use a = -0.75 without widening, which
differs by up to a tenth of a galaxy's peak.
"""

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


def keys_cubic(x: Tensor) -> Tensor:
    """Keys' cubic convolution kernel with a = -0.5, which is zero beyond |x| = 2."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def resampling_weights(
    ratio: Tensor, size_in: int, size_out: int, offset: Tensor | None = None
) -> Tensor:
    """Weights that resample a row of pixels, centred, at a scale of its own for each image.

    Parameters
    ----------
    ratio : Tensor, (n,)
        Input pixels per output pixel.
    size_in, size_out : int
        Pixels in and out.
    offset : Tensor, (n,), optional
        What becomes the middle of the output, from the middle of the input, input pixels.

    Returns
    -------
    Tensor, (n, size_out, size_in)
        Each row sums to one over an endless input: beyond the input's edge the sky is dark.
    """
    ratio = ratio[:, None, None]
    out = torch.arange(size_out, device=ratio.device, dtype=ratio.dtype)[None, :, None]
    centre = (out - (size_out - 1) / 2) * ratio + (size_in - 1) / 2
    if offset is not None:
        centre = centre + offset[:, None, None]
    width = ratio.clamp(min=1.0)

    def kernel(first: int, count: Tensor | int) -> Tensor:
        columns = torch.arange(first, first + int(count), device=ratio.device, dtype=ratio.dtype)
        return keys_cubic((columns - centre) / width)

    # the sum over an endless row of pixels depends on the centre's fraction alone
    reach = int(2 * float(width.max())) + 2
    fraction = centre - centre.floor()
    steps = torch.arange(-reach, reach + 1, device=ratio.device, dtype=ratio.dtype)
    norm = keys_cubic((steps - fraction) / width).sum(dim=-1, keepdim=True)
    return kernel(0, size_in) / norm


def place(
    images: Tensor,
    kpc_per_pixel: Tensor,
    distance_mpc: Tensor,
    *,
    pixels: int,
    pixel_scale_arcsec: float,
    dimming: Dimming,
    centre_offset: Tensor | None = None,
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
    rows = resampling_weights(ratio, images.shape[-2], pixels, y)
    columns = resampling_weights(ratio, images.shape[-1], pixels, x)
    placed = rows[:, None] @ images @ columns[:, None].transpose(-1, -2)
    if dimming == "literal":
        factor = (ILLUSTRIS_CAMERA_MPC / distance_mpc) ** 2
        placed = placed * factor.to(placed.dtype)[:, None, None, None]
    return placed
