"""Fronts and bodies of networks.

A front scales images and is fixed. A body is trained and turns the front's output into raw numbers,
of which `peculiar.networks.heads` makes distances. The paper has convolutional and residual
networks (section 2, Tables A1 and A2); pyramids, starlets and apertures are ours.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from peculiar.core.errors import InputError
from peculiar.networks.apertures import Apertures
from peculiar.networks.params import LayerSection, NetworkSection
from peculiar.networks.scaling import Pixels, check_crop
from peculiar.networks.starlet import Starlet, perceptron


def output_pixels(layers: Sequence[LayerSection], pixels: int, *, padded: bool = False) -> int:
    """Side of the last feature map, pixels; not positive if a kernel no longer fits.

    `padded` is for a pyramid, whose convolutions keep the size apart from the stride.
    """
    for layer in layers:
        kernel = 1 if padded else layer.kernel
        if pixels < kernel:
            return 0
        pixels = (pixels - kernel) // layer.stride + 1
    return pixels


def multiply_adds(
    layers: Sequence[LayerSection], bands: int, pixels: int, *, padded: bool = False
) -> int:
    """Multiply-add operations of the convolutions for one image."""
    total, channels = 0, bands
    for number, layer in enumerate(layers, start=1):
        side = output_pixels(layers[:number], pixels, padded=padded)
        total += side**2 * layer.filters * channels * layer.kernel**2
        channels = layer.filters
    return total


def cnn(
    layers: Sequence[LayerSection], bands: int, pixels: int, outputs: int, *, batch_norm: bool
) -> nn.Sequential:
    """Convolutions with ReLU and a linear output (paper, section 2 and Table A1).

    Parameters
    ----------
    layers : sequence of LayerSection
        Convolutions, from the image to the output.
    bands, pixels : int
        Channels and side of the input images.
    outputs : int
        Number of outputs, one in the paper.
    batch_norm : bool
        Normalise each convolution's output over the batch (not in the paper).

    Returns
    -------
    nn.Sequential
        (n, band, y, x) to (n, outputs).

    Raises
    ------
    InputError
        When the convolutions leave no pixel.
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
        parts.append(nn.ReLU(inplace=True))
        channels = layer.filters
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(channels * side**2, outputs))


def resnet(family: str, bands: int, outputs: int) -> nn.Module:
    """ResNet18 or ResNet50 (He et al. 2016) for any number of bands, with a linear output.

    "Default parameters ... with the output layer replaced by a fully connected layer with no
    activation function and an output size of 1" (paper, appendix A); no pretrained weights, which
    exist for three bands only.
    """
    from torchvision.models import get_model  # slow to import: it loads a compiler

    network: nn.Module = get_model(family, num_classes=outputs)
    network.conv1 = nn.Conv2d(bands, 64, kernel_size=7, stride=2, padding=3, bias=False)
    return network


def padded(channels: int, layer: LayerSection) -> nn.Sequential:
    """A convolution that keeps the size apart from the stride, batch normalisation, and ReLU."""
    kernel, filters = layer.kernel, layer.filters
    return nn.Sequential(
        nn.Conv2d(channels, filters, kernel, layer.stride, (kernel - 1) // 2, bias=False),
        nn.BatchNorm2d(filters),
        nn.ReLU(inplace=True),
    )


class Pyramid(nn.Module):
    """Convolutions, and a perceptron of the logarithm of the mean feature maps at each scale.

    How strongly an image fluctuates at each scale depends on the galaxy's distance
    (docs/decisions/0013); on stand-ins these are the noise of the particles, so a pyramid fails the
    null tests (docs/results/nulls.md). The mean of a
    rectified filter over the image measures the strength of the fluctuations. Its logarithm turns
    the product of strength and brightness into a sum, which a perceptron with one hidden layer can
    separate. Convolutions keep the size apart from the stride, with batch normalisation and ReLU;
    those that keep the shape have a shortcut (He et al. 2016).

    Parameters
    ----------
    layers : sequence of LayerSection
        Convolutions, from the image to the coarsest scale.
    bands : int
        Channels of the input images.
    hidden, outputs : int
        Hidden units of the perceptron, and number of outputs.

    Raises
    ------
    InputError
        For an even kernel, which has no centre.
    """

    FLOOR = 1e-3  # added to a mean before its logarithm, in units of the normalised maps

    def __init__(self, layers: Sequence[LayerSection], bands: int, hidden: int, outputs: int):
        super().__init__()
        even = [layer.kernel for layer in layers if layer.kernel % 2 == 0]
        if even:
            raise InputError(f"kernel {even[0]} of a pyramid has no middle: take odd kernels")
        channels = [bands, *(layer.filters for layer in layers)]
        self.convolutions = nn.ModuleList(
            padded(before, layer) for before, layer in zip(channels, layers, strict=False)
        )
        last = [*(layer.stride > 1 for layer in layers[1:]), True]  # layer of its scale
        self.seen = [number for number, is_last in enumerate(last) if is_last]
        features = sum(layers[number].filters for number in self.seen)
        self.perceptron = nn.Sequential(
            nn.BatchNorm1d(features),
            nn.Linear(features, hidden),
            nn.ReLU(),
            nn.Linear(hidden, outputs),
        )

    def forward(self, scaled: Tensor) -> Tensor:
        """Scaled images (n, band, y, x) to raw numbers (n, outputs)."""
        features = []
        for number, convolution in enumerate(self.convolutions):
            out = convolution(scaled)
            # no shortcut from the pixels, which may be negative
            scaled = out + scaled if number > 0 and out.shape == scaled.shape else out
            if number in self.seen:
                features.append((scaled.mean(dim=(-2, -1)) + self.FLOOR).log())
        raw: Tensor = self.perceptron(torch.cat(features, dim=-1))
        return raw


def front(spec: NetworkSection, bands: Sequence[str], pixels: int) -> nn.Module:
    """Build the front of a network, which is fixed.

    Parameters
    ----------
    spec : NetworkSection
        `family`; `crop`, the side of the middle of the images that is used, pixels, None for all;
        the softening of asinh, AB mag/arcsec^2.
    bands : sequence of str
        Bands of the images, in order.
    pixels : int
        Side of the images, pixels.

    Returns
    -------
    nn.Module
        Surface brightness (n, band, y, x), W/m/m^2/sr, to scaled pixels, or to the numbers
        (n, number) of a starlet or of apertures.

    Raises
    ------
    InputError
        When the images have no such middle, or it cannot be halved.
    """
    scaled = Pixels(bands, spec.softening_mag_arcsec2, spec.crop)
    side = check_crop(spec.crop, pixels)
    if spec.family == "starlet":
        return nn.Sequential(scaled, Starlet(side))
    if spec.family == "apertures":
        return nn.Sequential(scaled, Apertures(side))
    return scaled


def body(spec: NetworkSection, bands: int, pixels: int, outputs: int) -> nn.Module:
    """Build a body with new weights from torch's global generator.

    Parameters
    ----------
    spec : NetworkSection
        `family`; `layers` of a CNN or pyramid; `hidden` units of the perceptron of a
        pyramid, a starlet or apertures, and `dropout` of the last two; whether a CNN has
        `batch_norm` (other families always do).
    bands, pixels : int
        Channels and side of the input images.
    outputs : int
        Number of outputs.

    Returns
    -------
    nn.Module
        Output of the front to (n, outputs).

    Raises
    ------
    InputError
        When the layers do not fit the images.
    """
    if spec.family == "cnn":
        return cnn(spec.layers, bands, pixels, outputs, batch_norm=spec.batch_norm)
    if spec.family == "pyramid":
        return Pyramid(spec.layers, bands, spec.hidden, outputs)
    if spec.family == "starlet":
        return perceptron(Starlet.numbers(bands), spec.hidden, outputs, spec.dropout)
    if spec.family == "apertures":
        return perceptron(Apertures.numbers(bands), spec.hidden, outputs, spec.dropout)
    return resnet(spec.family, bands, outputs)
