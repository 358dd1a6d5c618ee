"""Aperture photometry: fluxes and colours within circles about the middle of an image."""

import torch
from torch import Tensor, nn

from peculiar.networks.scaling import asinh


class Apertures(nn.Module):
    """Fluxes and colours within circular apertures, and in all of the image.

    These are what a catalogue of galaxies lists: magnitudes, colours, and by the growth of the flux
    from circle to circle the size and concentration. Nothing here measures fluctuations, which on
    a simulation are the noise of its particles and tell the distance by the particles' mass;
    nature has no such mass (docs/results/nulls.md). A sum within a circle hardly depends on how
    the light of the particles is spread, on the PSF, or on the resampling.

    The numbers do not change when the image is rotated or reflected. Nothing is learned, so they
    are computed once per image.

    Parameters
    ----------
    pixels : int
        Side of the input images, pixels.
    """

    RADII = (3.0, 5.0, 8.0, 12.0, 18.0, 26.0, 38.0, 54.0)  # pixels; 4 to 73 arcsec by default
    EDGE = 1.0  # pixels: the edge of a circle is a logistic function of this scale

    weights: Tensor

    def __init__(self, pixels: int):
        super().__init__()
        along = (torch.arange(pixels) - (pixels - 1) / 2).square()
        radius = (along[:, None] + along).sqrt().flatten()
        circles = [torch.sigmoid((edge - radius) / self.EDGE) for edge in self.RADII]
        self.register_buffer("weights", torch.stack([*circles, torch.ones_like(radius)]))

    @classmethod
    def numbers(cls, bands: int) -> int:
        """Number of outputs for an image of `bands` bands."""
        return (len(cls.RADII) + 1) * (1 + bands)

    def forward(self, scaled: Tensor) -> Tensor:
        """Numbers (n, number) of scaled images (n, band, y, x).

        For each aperture the asinh of the flux, in pixels of the softening brightness, averaged
        over bands; then for each aperture and band the difference from that mean, its colour.
        """
        grown = scaled.exp()  # sinh, which torch does not vectorise
        light = ((grown - 1 / grown) / 2).flatten(2)
        flux = asinh(light @ self.weights.T).transpose(1, 2)
        mean = flux.mean(dim=2, keepdim=True)
        return torch.cat([mean.flatten(1), (flux - mean).flatten(1)], dim=1)
