"""Weights by which pixels of a raw image make the pixels of a placed one.

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

from dataclasses import dataclass
from math import ceil
from typing import Self

import torch
from torch import Tensor

from peculiar.core.photometry import GAUSSIAN_FWHM

Taps = tuple[Tensor, Tensor]
PSF_REACH = 4.5  # deviations beyond which a Gaussian is taken as zero
NARROWEST = 0.5  # deviation, input pixels: a narrower Gaussian would miss the light between them


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
    sigma = ((psf_fwhm / GAUSSIAN_FWHM * ratio) ** 2 - 1 / 12).clamp(min=NARROWEST**2).sqrt()
    reach = ceil(PSF_REACH * float(sigma.max()))
    steps = torch.arange(1 - reach, reach + 1, device=ratio.device, dtype=ratio.dtype)
    position = centre.floor() + steps
    weight = (-0.5 * ((position - centre) / sigma).square()).exp()
    weight = weight * ((position >= 0) & (position < size_in))
    # nowhere zero: an output pixel far outside has no weights
    weight = weight / weight.sum(dim=-1, keepdim=True).clamp(min=1e-30)
    inside = (centre >= -0.5) & (centre <= size_in - 0.5)
    return position.clamp(0, size_in - 1).long(), weight * inside
