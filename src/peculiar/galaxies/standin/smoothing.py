"""Adaptive smoothing: spread the light of each particle over a Gaussian and make an image.

The widths of the Gaussians and the cells in which light is collected depend on the particles
alone, not on the pixels or the field of view of the image, so other pixels show the same galaxy.
Particles are grouped by width, in steps of sqrt(2). Each group is binned into cells of a fraction
of its width, but not below a quarter of a pixel, and spread by two matrix products whose weights
are integrals of the Gaussian over pixels. No grid is periodic: a Gaussian may be wider than the
image, and light comes in from outside the field of view.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.special import ndtr

from peculiar.core.photometry import GAUSSIAN_FWHM

Floats = NDArray[np.float64]
Image = NDArray[np.float32]
CELLS = 1.5  # cells per deviation
FINEST = 1 / 4  # of a pixel: the smallest cell
REACH = 5.0  # deviations beyond which a Gaussian is taken as zero
BLOCK = 32  # pixels per matrix product: most of the weights are zero


@dataclass(frozen=True)
class Kernels:
    """Widths of the particles' Gaussians.

    Attributes
    ----------
    level : ndarray of int, (particle,)
        The deviation of a particle's Gaussian is `unit` 2^(level / 2).
    unit : float
        Deviation at level 0, unit of the positions: the galaxy's own median.
    """

    level: NDArray[np.int64]
    unit: float

    def sigma(self, level: int) -> float:
        """Deviation at a level, unit of the positions."""
        return float(self.unit * 2 ** (level / 2))


def adaptive_kernels(position: Floats, neighbours: int) -> Kernels:
    """Choose the width of each particle's Gaussian.

    The full width at half maximum is the distance in space to the n-th neighbour (the 16th in
    Torrey et al. 2015, MNRAS 447, 2753). Steps are relative to the galaxy's own median width: steps
    of fixed lengths in kpc would be a standard ruler, and so would any limit of the widths
    (docs/decisions/0039).

    Parameters
    ----------
    position : ndarray, (particle, 3)
        Positions, any unit.
    neighbours : int
        Which neighbour sets the width, for example 16; the most distant one where there are fewer.

    Returns
    -------
    Kernels
    """
    tree = cKDTree(position)
    distance = np.empty(len(position))
    nearest = min(neighbours, len(position) - 1)
    # in the order of the tree's leaves, neighbours are in the cache: a fifth faster
    distance[tree.indices] = tree.query(position[tree.indices], k=[nearest + 1])[0][:, 0]
    middle = float(np.median(distance))
    steps = 2 * np.log2(np.maximum(distance / middle, 1e-6))
    return Kernels(np.rint(steps).astype(np.int64), middle / GAUSSIAN_FWHM)


def _cloud_in_cell(
    xy: Floats, light: Floats, step: float
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Bin light (band, n) at xy (2, n) into cells whose centres are multiples of `step`.

    Returns the first cell (x, y), and the light (y, band, x) in the cells from there on.
    """
    at = xy / step
    low = np.floor(at).astype(np.int64)
    first = low.min(axis=1)
    wide, high = (int(cells) for cells in low.max(axis=1) - first + 2)
    right, up = at - low
    left, down = 1 - right, 1 - up
    corner = (low[1] - first[1]) * wide + low[0] - first[0]
    index = np.concatenate([corner, corner + 1, corner + wide, corner + wide + 1])
    share = np.concatenate([left * down, right * down, left * up, right * up])
    binned = np.empty((high, len(light), wide), dtype=np.float32)
    for band, one in enumerate(light):
        summed = np.bincount(index, share * np.tile(one, 4), wide * high)
        binned[:, band] = summed.reshape(high, wide)
    return first, binned


def _weights(first: int, cells: int, step: float, sigma: float, edges: Floats) -> Image:
    """Integrals (pixel, cell) over pixels of unit Gaussians at the centres of cells, float32."""
    centre = (first + np.arange(cells)) * step
    below = ndtr((edges[:, None] - centre) / sigma)
    return np.asarray(np.diff(below, axis=0), dtype=np.float32)


def _blocks(weights: Image) -> list[tuple[slice, slice]]:
    """Blocks of pixels, and the cells that give them light; none where no light arrives."""
    blocks = []
    for start in range(0, len(weights), BLOCK):
        pixels = slice(start, start + BLOCK)
        cells = np.flatnonzero(weights[pixels].max(axis=0) > 0)
        if len(cells):
            blocks.append((pixels, slice(int(cells[0]), int(cells[-1]) + 1)))
    return blocks


def image_of(xy: Floats, light: Floats, kernels: Kernels, pixels: int, pixel: float) -> Image:
    """Smooth particles into images.

    Parameters
    ----------
    xy : ndarray, (2, particle)
        Positions from the centre of the image.
    light : ndarray, (band, particle)
        Light, any unit.
    kernels : Kernels
        From `adaptive_kernels`, with levels in ascending order.
    pixels : int
        Side of the image, pixels.
    pixel : float
        Side of a pixel, unit of the positions.

    Returns
    -------
    ndarray, (band, y, x), float32
        Light in each pixel, unit of `light`. Gaussians narrower than a tenth of a pixel are that
        wide.
    """
    image = np.zeros((len(light), pixels, pixels), dtype=np.float32)
    for level in np.unique(kernels.level):
        ends = np.searchsorted(kernels.level, [level, level + 1])
        sigma, group = kernels.sigma(int(level)), slice(*ends)
        near = np.all(np.abs(xy[:, group]) < pixels * pixel / 2 + REACH * sigma, axis=0)
        if near.any():
            _add(image, xy[:, group][:, near], light[:, group][:, near], sigma, pixel)
    return image


def _add(image: Image, xy: Floats, light: Floats, sigma: float, pixel: float) -> None:
    """Add particles whose Gaussians have the deviation `sigma` to an image (band, y, x)."""
    step = max(sigma / CELLS, FINEST * pixel)
    first, binned = _cloud_in_cell(xy, light, step)
    # binning has smoothed already: the variance of its triangle is step^2 / 6
    width = np.sqrt(max(sigma**2 - step**2 / 6, (1e-3 * step) ** 2))
    edges = (np.arange(image.shape[-1] + 1) - image.shape[-1] / 2) * pixel
    high, bands, wide = binned.shape
    down = _weights(int(first[1]), high, step, width, edges)
    across = _weights(int(first[0]), wide, step, width, edges)
    columns = _blocks(across)
    for y, rows in _blocks(down):
        lines = down[y, rows] @ binned[rows].reshape(-1, bands * wide)
        lines = lines.reshape(-1, wide)
        for x, cells in columns:
            part = lines[:, cells] @ across[x, cells].T
            image[:, y, x] += part.reshape(-1, bands, part.shape[-1]).swapaxes(0, 1)
