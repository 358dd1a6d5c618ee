"""Adaptive smoothing: spread the light of each particle over a Gaussian and make an image.

Particles are grouped by the width of their Gaussians, in steps of sqrt(2). Each group is binned and
smoothed by FFT. The groups are added in Fourier space, so one inverse transform makes the image.
"""

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Floats = NDArray[np.float64]
SIGMA_0 = 6**-0.5  # pixels: the deviation of cloud-in-cell binning, the narrowest kernel


def kernel_levels(position: Floats, neighbours: int, pixels: int) -> NDArray[np.int64]:
    """Choose the width of each particle's Gaussian: its deviation is `SIGMA_0` 2^(level/2) pixels.

    The full width at half maximum, 2.355 deviations, is the distance in space to the n-th neighbour
    (the 16th in Torrey et al. 2015, MNRAS 447, 2753). It is capped so that the Gaussian fits the
    margin of the grid, 1/8 of the image: at a deviation of 9.2 pixels for 256 pixels. On a field of
    fixed size the cap is a fixed length in kpc, which a network can use as a standard ruler
    (docs/results/README.md).

    Parameters
    ----------
    position : ndarray, (particle, 3)
        Positions, pixels.
    neighbours : int
        Which neighbour sets the width, for example 16.
    pixels : int
        Side of the image, pixels.

    Returns
    -------
    ndarray, (particle,)
        Levels, from 0.
    """
    tree = cKDTree(position)
    distance = np.empty(len(position))
    # in the order of the tree's leaves, neighbours are in the cache: a fifth faster
    distance[tree.indices] = tree.query(position[tree.indices], k=[neighbours + 1])[0][:, 0]
    level = np.rint(2 * np.log2(np.maximum(distance / 2.3548 / SIGMA_0, 1)))
    widest = int(2 * np.log2(pixels / 8 / 3.4 / SIGMA_0))
    return np.asarray(np.minimum(level, widest), dtype=np.int64)


def _cloud_in_cell(xy: Floats, light: Floats, cells: int) -> NDArray[np.float32]:
    """Bin light (band, n) at xy (2, n), in cells, on a periodic grid (band, cells, cells)."""
    low = np.floor(xy).astype(np.int64)
    part = xy - low
    index, weight = [], []
    for dx in (0, 1):
        for dy in (0, 1):
            index.append((low[1] + dy) % cells * cells + (low[0] + dx) % cells)
            weight.append(abs(1 - dx - part[0]) * abs(1 - dy - part[1]))
    at, share = np.concatenate(index), np.concatenate(weight)
    binned = [np.bincount(at, share * np.tile(one, 4), cells**2) for one in light]
    return np.array(binned, dtype=np.float32).reshape(-1, cells, cells)


def image_of(xy: Floats, light: Floats, levels: NDArray[np.int64], pixels: int) -> Floats:
    """Smooth particles into images.

    Parameters
    ----------
    xy : ndarray, (2, particle)
        Positions from the centre of the image, pixels.
    light : ndarray, (band, particle)
        Light, any unit.
    levels : ndarray, (particle,)
        From `kernel_levels`, in ascending order.
    pixels : int
        Side of the image, a multiple of 16.

    Returns
    -------
    ndarray, (band, y, x)
        Light in each pixel, unit of `light`.
    """
    side, margin = pixels + pixels // 4, pixels // 8
    xy = xy + (side / 2 - 0.5)  # nodes of the grid are the centres of pixels
    inside = np.all((xy > -0.5) & (xy < side - 0.5), axis=0)
    spectrum = np.zeros((len(light), side, side // 2 + 1), dtype=np.complex64)
    sharp = np.zeros((len(light), side, side), dtype=np.float32)
    for level in np.unique(levels):
        members = np.arange(*np.searchsorted(levels, [level, level + 1]))
        members = members[inside[members]]
        step = 1 if level < 6 else 2 if level < 8 else 4
        binned = _cloud_in_cell(xy[:, members] / step, light[:, members], side // step)
        if level == 0:
            sharp = binned
        else:
            _add_smoothed(spectrum, binned, SIGMA_0 * 2 ** (level / 2) / step)
    image = scipy.fft.irfft2(spectrum, s=(side, side), workers=1) + sharp
    cut = slice(margin, margin + pixels)
    # float32 rounding leaves tiny negative values
    return np.asarray(np.maximum(image[:, cut, cut], 0))


def _add_smoothed(
    spectrum: NDArray[np.complex64], image: NDArray[np.float32], sigma: float
) -> None:
    """Add the spectrum of a binned image, smoothed to `sigma` cells, to the low frequencies.

    Cloud-in-cell binning has already smoothed with a variance of 1/6. On the finest grid the
    discrete Gaussian (Lindeberg 1990), positive for every width, avoids rings around single
    particles. On coarse grids kernels are wide enough for the continuous Gaussian.
    """
    cells = image.shape[-1]
    finest = cells == spectrum.shape[1]
    k = 2 * np.pi * scipy.fft.fftfreq(cells)
    k2 = 2 - 2 * np.cos(k) if finest else k**2
    transfer = np.exp(-0.5 * (sigma**2 - 1 / 6) * k2).astype(np.float32)
    part = scipy.fft.rfft2(image, workers=1)
    part *= np.outer(transfer, transfer[: cells // 2 + 1])
    if finest:
        spectrum += part
        return
    half = (cells + 1) // 2  # the Nyquist frequency has no partner here, and no power
    spectrum[:, :half, :half] += part[:, :half, :half]
    spectrum[:, 1 - half :, :half] += part[:, 1 - half :, :half]
