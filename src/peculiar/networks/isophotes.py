"""Measure the photometry of an image: fluxes, isophotal areas and radii, and colours."""

import torch
from torch import Tensor, nn

from peculiar.core.errors import InputError
from peculiar.networks.scaling import asinh
from peculiar.networks.starlet import b3_smooth, halve


class Isophotes(nn.Module):
    """Fluxes, and the area, radius and colour of layers of brightness.

    These are what a catalogue of galaxies lists, and what distances by a photometric plane rest on.
    Nothing here measures fluctuations: on stand-ins, and on any simulation, they are the noise of
    its particles and tell the distance by the particles' mass, which nature does not have
    (docs/results/nulls.md). Images are binned and smoothed first, so that neither the particles
    nor the sharpness of the resampling is seen.

    Layers are overlapping triangles in the asinh of the smoothed image, averaged over bands; with a
    softening of 27 mag/arcsec^2 they are about one magnitude apart, from 27 to 20. The numbers do
    not change when the image is rotated or reflected. Nothing is learned, so they are computed once
    per image.

    Parameters
    ----------
    pixels : int
        Side of the input images, a multiple of 4: two halvings.

    Raises
    ------
    InputError
        When the side cannot be halved.
    """

    HALVINGS = 2
    LAYERS, STEP = 8, 1.0  # asinh(I / softening) of 0 to 7; 0 is the sky, which has no area
    LEAST_AREA = 10.0  # pixels; keeps radii of empty layers finite

    layers: Tensor
    square_radius: Tensor

    def __init__(self, pixels: int):
        super().__init__()
        cell = 2**self.HALVINGS
        if pixels % cell:
            raise InputError(
                f"isophotes cannot halve {pixels} pixels {self.HALVINGS} times: take a crop "
                f"that is a multiple of {cell}"
            )
        side = pixels // cell
        along = (torch.arange(side) - (side - 1) / 2).square() * cell**2
        self.register_buffer("square_radius", (along[:, None] + along).flatten())
        self.register_buffer("layers", torch.arange(float(self.LAYERS))[:, None])

    @classmethod
    def numbers(cls, bands: int) -> int:
        """Number of outputs for an image of `bands` bands."""
        return 1 + bands + 2 * (cls.LAYERS - 1) + cls.LAYERS * bands

    def forward(self, scaled: Tensor) -> Tensor:
        """Numbers (n, number) of scaled images (n, band, y, x).

        Fluxes (asinh of the sum, in units of the softening; mean over bands, and each band's
        difference from it); for each layer but the lowest log(1 + area in pixels) and the
        logarithm of the mean square radius in pixels^2, about the middle of the image; and for each
        layer and band the mean difference from the mean over bands, its colour.
        """
        grown = scaled.exp()  # sinh, which torch does not vectorise
        light = (grown - 1 / grown) / 2
        flux = light.sum(dim=(-2, -1)).asinh()
        mean_flux = flux.mean(dim=1, keepdim=True)
        for _ in range(self.HALVINGS):
            light = halve(light)
        brightness = asinh(b3_smooth(light)).flatten(2)
        base = brightness.mean(dim=1, keepdim=True)
        level = (base / self.STEP).clamp(0, self.LAYERS - 1)
        share = (1 - (level - self.layers).abs()).clamp(min=0)
        cells = share.sum(dim=-1)
        area = cells * 4**self.HALVINGS
        moment = (share * self.square_radius).sum(dim=-1) * 4**self.HALVINGS
        radius = (moment / (area + self.LEAST_AREA)).log1p()
        colour = share @ (brightness - base).transpose(1, 2) / (cells[..., None] + 1)
        sizes = [area.log1p()[:, 1:], radius[:, 1:]]
        return torch.cat([mean_flux, flux - mean_flux, *sizes, colour.flatten(1)], dim=1)
