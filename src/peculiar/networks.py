"""The paper's convolutional and residual networks (section 2, Tables A1 and A2)."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torchvision.models import resnet18, resnet50

from peculiar.bands import surface_brightness
from peculiar.errors import InputError

RESNETS = {"resnet18": resnet18, "resnet50": resnet50}


class Layer(Protocol):
    """One convolution: number of filters, and kernel side and stride in pixels."""

    filters: int
    kernel: int
    stride: int


def asinh(x: Tensor) -> Tensor:
    """Inverse hyperbolic sine to 1e-6, twice as fast on a CPU as torch's, which is not vectorised.

    asinh(x) = sign(x) log(|x| + sqrt(1 + x^2)), in place where it can be: images are large.
    """
    size = x.abs()
    return (size * size).add_(1).sqrt_().add_(size).log_().copysign_(x)


def scale(images: Tensor, softening: Tensor) -> Tensor:
    """Surface brightness to what networks are fed, asinh(I / softening), both in W/m/m^2/sr."""
    return asinh(images / softening)


def softening_of(bands: Sequence[str], mag_arcsec2: float) -> Tensor:
    """Surface brightness (band, 1, 1), W/m/m^2/sr, of one AB mag/arcsec^2 in each band."""
    levels = [float(surface_brightness(mag_arcsec2, band)) for band in bands]
    return torch.tensor(levels)[:, None, None]


class DistanceNetwork(nn.Module):
    """Images in physical units to distances in Mpc; scalings of both travel with the weights.

    Parameters
    ----------
    body : nn.Module
        Scaled images (n, band, y, x) to numbers (n, 1).
    softening : Tensor, (band, 1, 1)
        Surface brightness at which asinh turns from linear to logarithmic, W/m/m^2/sr.
    offset_mpc, scale_mpc : float
        D = offset + scale * body(...). 0 and 1 for targets left in Mpc.
    """

    softening: Tensor
    offset_mpc: Tensor
    scale_mpc: Tensor

    def __init__(self, body: nn.Module, softening: Tensor, offset_mpc: float, scale_mpc: float):
        super().__init__()
        self.body = body
        self.register_buffer("softening", softening)
        self.register_buffer("offset_mpc", torch.tensor(offset_mpc))
        self.register_buffer("scale_mpc", torch.tensor(scale_mpc))

    def forward(self, images: Tensor) -> Tensor:
        """Surface brightness (n, band, y, x), W/m/m^2/sr, to distances (n,), Mpc."""
        return self.distance(self.scale(images))

    def scale(self, images: Tensor) -> Tensor:
        """Surface brightness, W/m/m^2/sr, to what `distance` takes, asinh(I / softening)."""
        return scale(images, self.softening)

    def distance(self, scaled: Tensor) -> Tensor:
        """Scaled images (n, band, y, x) to distances (n,), Mpc."""
        out: Tensor = self.offset_mpc + self.scale_mpc * self.body(scaled).squeeze(-1)
        return out


def output_pixels(layers: Sequence[Layer], pixels: int) -> int:
    """Side of the last feature map, pixels; not positive where a kernel no longer fits."""
    for layer in layers:
        if pixels < layer.kernel:
            return 0
        pixels = (pixels - layer.kernel) // layer.stride + 1
    return pixels


def multiply_adds(layers: Sequence[Layer], bands: int, pixels: int) -> int:
    """Multiplications and additions that the convolutions need for one image."""
    total, channels = 0, bands
    for number, layer in enumerate(layers, start=1):
        side = output_pixels(layers[:number], pixels)
        total += side**2 * layer.filters * channels * layer.kernel**2
        channels = layer.filters
    return total


def cnn(layers: Sequence[Layer], bands: int, pixels: int, *, batch_norm: bool) -> nn.Sequential:
    """Convolutions with ReLU and one linear output (paper, section 2 and Table A1).

    Parameters
    ----------
    layers : sequence of Layer
        From the image to the output.
    bands, pixels : int
        Channels and side of the input images.
    batch_norm : bool
        Normalise each convolution's output over the batch (not in the paper).

    Returns
    -------
    nn.Sequential
        (n, band, y, x) to (n, 1).

    Raises
    ------
    InputError
        When the convolutions shrink the image to nothing.
    """
    side = output_pixels(layers, pixels)
    if side < 1:
        kernels = [(layer.kernel, layer.stride) for layer in layers]
        raise InputError(
            f"layers with (kernel, stride) {kernels} shrink {pixels} pixels to nothing: "
            "take smaller kernels or strides"
        )
    parts: list[nn.Module] = []
    channels = bands
    for layer in layers:
        parts.append(nn.Conv2d(channels, layer.filters, layer.kernel, layer.stride))
        if batch_norm:
            parts.append(nn.BatchNorm2d(layer.filters))
        parts.append(nn.ReLU())
        channels = layer.filters
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(channels * side**2, 1))


def resnet(family: str, bands: int) -> nn.Module:
    """ResNet18 or ResNet50 (He et al. 2016) for any number of bands, with one linear output.

    "Default parameters ... with the output layer replaced by a fully connected layer with no
    activation function and an output size of 1" (paper, appendix A); no pretrained weights, which
    would be for three bands.
    """
    network: nn.Module = RESNETS[family](num_classes=1)
    network.conv1 = nn.Conv2d(bands, 64, kernel_size=7, stride=2, padding=3, bias=False)
    return network


def build(
    family: str,
    layers: Sequence[Layer],
    bands: Sequence[str],
    pixels: int,
    *,
    batch_norm: bool,
    softening_mag_arcsec2: float,
    target: tuple[float, float],
    seed: int,
) -> DistanceNetwork:
    """A network with fresh weights.

    Parameters
    ----------
    family : {"cnn", "resnet18", "resnet50"}
        Kind of network.
    layers : sequence of Layer
        Convolutions of a CNN; not used by a ResNet.
    bands : sequence of str
        Bands of the images, in order.
    pixels : int
        Side of the images, pixels.
    batch_norm : bool
        Batch normalisation in a CNN (a ResNet always has it).
    softening_mag_arcsec2 : float
        asinh softening, AB mag/arcsec^2, the same magnitude in each band.
    target : tuple of float
        Offset and scale of the targets, Mpc.
    seed : int
        Seed of the initial weights.

    Returns
    -------
    DistanceNetwork

    Raises
    ------
    InputError
        For an unknown family, or layers that do not fit the images.
    """
    softening = softening_of(bands, softening_mag_arcsec2)
    with torch.random.fork_rng(devices=[]):  # torch initialises from its global generator only
        torch.manual_seed(seed)
        if family == "cnn":
            body: nn.Module = cnn(layers, len(bands), pixels, batch_norm=batch_norm)
        elif family in RESNETS:
            body = resnet(family, len(bands))
        else:
            known = ", ".join(["cnn", *RESNETS])
            raise InputError(f"no network family is called {family!r}: take {known}")
    return DistanceNetwork(body, softening, *target)
