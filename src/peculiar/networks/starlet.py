"""Measure how strongly an image fluctuates at each brightness, and a perceptron for the result."""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from peculiar.core.errors import InputError


def pairs(images: Tensor, axis: int, step: int = 1) -> Tensor:
    """Sums of neighbours along an axis: of all pairs, or of every second one (step 2)."""
    along = images.unfold(axis, 2, step)
    return along[..., 0] + along[..., 1]


def b3_smooth(images: Tensor) -> Tensor:
    """Smooth images (n, band, y, x) with the B3 spline (1, 4, 6, 4, 1) / 16 along y and x.

    The spline is the result of four sums of neighbours, ten times as fast on a CPU as a
    convolution of a few channels. The edge pixels are repeated beyond the edge, where a constant
    would add fluctuations.
    """
    images = pad(images, (2, 2, 2, 2), mode="replicate")
    for axis in (-2, -1):
        for _ in range(4):
            images = pairs(images, axis)
    return images / 256


def halve(images: Tensor) -> Tensor:
    """Means (n, band, y / 2, x / 2) of 2 x 2 pixels."""
    return pairs(pairs(images, -2, 2), -1, 2) / 4


class Starlet(nn.Module):
    """Fluxes, areas, colours and the strength of wavelets in layers of brightness.

    The light of particles of one mass fluctuates. At a given brightness and angular scale, its
    relative fluctuations depend mainly on the distance (docs/decisions/0013 and 0016; for stars
    these are the surface-brightness fluctuations of Tonry & Schneider 1988, AJ 96, 807). On
    stand-ins they tell the mass of the simulation's particles, which nature does not have: a
    starlet fails the null tests and cannot be promoted (docs/results/nulls.md).

    The wavelets are starlets (Starck, Fadili & Murtagh 2007, IEEE Trans. Image Process. 16, 297):
    differences between an image and its mean under a B3 spline. Each coarser scale starts from
    means of 2 x 2 pixels. Wavelets of asinh(I / softening) are relative fluctuations where I is
    large. Layers are overlapping triangles in the asinh of the smoothest image, averaged over
    bands. The numbers do not change when the image is rotated or reflected. Nothing is learned, so
    they are computed once per image.

    Parameters
    ----------
    pixels : int
        Side of the input images, a multiple of 4: two halvings.

    Raises
    ------
    InputError
        When the side cannot be halved.
    """

    SCALES = 3
    LAYERS, STEP = 8, 2.0  # from 0 to 14 in asinh(I / softening), 15 magnitudes
    FLOOR = 1e-5  # of a mean square before its logarithm

    layers: Tensor

    def __init__(self, pixels: int):
        super().__init__()
        halvings = 2 ** (self.SCALES - 1)
        if pixels % halvings:
            raise InputError(
                f"a starlet cannot halve {pixels} pixels {self.SCALES - 1} times: take a crop "
                f"that is a multiple of {halvings}"
            )
        self.register_buffer("layers", torch.arange(float(self.LAYERS))[:, None])

    @classmethod
    def numbers(cls, bands: int) -> int:
        """Number of outputs for an image of `bands` bands."""
        return 1 + bands + cls.LAYERS * (1 + bands + cls.SCALES * bands)

    def forward(self, scaled: Tensor) -> Tensor:
        """Numbers (n, number) of scaled images (n, band, y, x).

        Fluxes (mean over bands, and each band's difference from it); for each scale, layer and band
        the logarithm of the mean square of the wavelet; the logarithm of each layer's area; and the
        mean difference of each layer and band from the mean over bands, its colour.
        """
        grown = scaled.exp()  # sinh, which torch does not vectorise
        flux = ((grown - 1 / grown) / 2).sum(dim=(-2, -1)).asinh()
        mean_flux = flux.mean(dim=1, keepdim=True)
        squares, coarse = [], scaled
        for scale in range(self.SCALES):
            coarse = halve(coarse) if scale else coarse
            smooth = b3_smooth(coarse)
            squares.append((coarse - smooth).square())
            last, coarse = coarse, smooth
        base = coarse.mean(dim=1, keepdim=True)
        features = [mean_flux, flux - mean_flux]
        for square in squares:
            mean, area = self._in_layers(square, base)
            features.append((mean + self.FLOOR).log().flatten(1))
        colour, _ = self._in_layers(last - last.mean(dim=1, keepdim=True), base)
        return torch.cat([*features, area.log1p(), colour.flatten(1)], dim=1)

    def _in_layers(self, maps: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
        """Means (n, layer, band) of maps (n, band, y, x), and areas (n, layer), in its pixels."""
        if base.shape[-1] != maps.shape[-1]:
            base = interpolate(base, size=maps.shape[-2:], mode="bilinear")
        level = (base.flatten(2) / self.STEP).clamp(0, self.LAYERS - 1)
        share = (level - self.layers).abs_().neg_().add_(1).clamp_(min=0)
        area = share.sum(dim=-1)
        # the extra 1 gives an empty layer a mean of 0
        return share @ maps.flatten(2).transpose(1, 2) / (area[..., None] + 1), area


def perceptron(inputs: int, hidden: int, outputs: int, dropout: float) -> nn.Sequential:
    """Normalise numbers (n, inputs) and pass them through two hidden layers to (n, outputs).

    Parameters
    ----------
    inputs, hidden, outputs : int
        Numbers in, units of each hidden layer, and numbers out.
    dropout : float
        Fraction of the hidden units that are dropped in a training step.

    Returns
    -------
    nn.Sequential
    """
    parts: list[nn.Module] = [nn.BatchNorm1d(inputs)]
    for units in (hidden, hidden):
        # batch normalisation removes any bias
        parts += [nn.Linear(inputs, units, bias=False), nn.BatchNorm1d(units), nn.SiLU()]
        parts += [nn.Dropout(dropout)]
        inputs = units
    return nn.Sequential(*parts, nn.Linear(hidden, outputs))
