"""Frames of one size around galaxies, for formats whose images differ in size."""

from dataclasses import replace
from math import floor

import numpy as np

from peculiar.galaxies import Galaxy


def frame(galaxy: Galaxy, pixels: int) -> Galaxy:
    """Cut the images, or fill them up with dark sky, to a square around the galaxy.

    The frame moves by whole pixels, so that no value changes; what is left of the galaxy's offset
    is at most half a pixel.

    Parameters
    ----------
    galaxy : Galaxy
        Images (camera, band, y, x) of any size; `centre_offset` says where the galaxy is.
    pixels : int
        Side of the frame, pixels.

    Returns
    -------
    Galaxy
        Images (camera, band, pixels, pixels) in the same unit and at the same pixel scale, and
        the new `centre_offset`, from -0.5 to 0.5 pixels in x and y.
    """
    x, y = galaxy.centre_offset
    from_y, to_y, left_y = _overlap(galaxy.images.shape[-2], y, pixels)
    from_x, to_x, left_x = _overlap(galaxy.images.shape[-1], x, pixels)
    images = np.zeros((*galaxy.images.shape[:-2], pixels, pixels), dtype=np.float32)
    images[..., to_y, to_x] = galaxy.images[..., from_y, from_x]
    return replace(galaxy, images=images, centre_offset=(left_x, left_y))


def _overlap(size: int, offset: float, pixels: int) -> tuple[slice, slice, float]:
    """Pixels of the image and of the frame that are one another's, and the new offset."""
    shift = offset + (size - pixels) / 2  # of the frame's first pixel against the image's
    # Halves go one way, whichever size is odd, so that framing twice is framing once.
    start = floor(shift + 0.5)
    first = max(start, 0)
    end = max(min(start + pixels, size), first)
    return slice(first, end), slice(first - start, end - start), shift - start
