"""Datasets of which only a part is shown, or whose redshifts are shuffled."""

from collections.abc import Callable, Mapping
from typing import cast

import astropy.units as u
import numpy as np
from numpy.typing import NDArray

from peculiar.core.dataset import Observed, Shards
from peculiar.core.photometry import magnitudes
from peculiar.networks.inference import Images, pieces_of

Array = NDArray[np.float64]
Pictures = NDArray[np.float32]
Change = Callable[[Pictures], Pictures]
RIM = 8  # pixels
SCALE = 8.0  # pixels: scale length of the profile that carries a total flux
BINS = 20  # of magnitude, with equal numbers of images
AT_ONCE = 64


def rim_alone(images: Pictures) -> Pictures:
    """Images (n, band, y, x) whose middle is dark: what is left is a frame of `RIM` pixels."""
    shown = images.copy()
    shown[..., RIM:-RIM, RIM:-RIM] = 0
    return shown


def background_alone(images: Pictures) -> Pictures:
    """Images (n, band, y, x) that are dark inside the circle that touches the edges."""
    half = (images.shape[-1] - 1) / 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    return np.where(np.hypot(x, y) > half, images, np.float32(0))


def flux_alone(images: Pictures) -> Pictures:
    """Images (n, band, y, x) whose flux in each band is spread as one exponential profile."""
    half = (images.shape[-1] - 1) / 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    profile = np.exp(-np.hypot(x, y) / SCALE)
    flux = images.sum(axis=(-2, -1), keepdims=True, dtype=float)
    return np.asarray(flux * profile / profile.sum(), dtype=np.float32)


def unchanged(images: Pictures) -> Pictures:
    """The images themselves."""
    return images


PARTS: Mapping[str, Change] = {
    "all": unchanged,
    "rim alone": rim_alone,
    "background alone": background_alone,
    "total flux alone": flux_alone,
}


class Changed:
    """Images that are changed when they are read.

    Parameters
    ----------
    images : Images
        (image, band, y, x), W/m/m^2/sr.
    change : callable
        Maps images (n, band, y, x) to as many.
    """

    def __init__(self, images: Images, change: Change):
        self.images, self.change, self.shape = images, change, images.shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: NDArray[np.integer]) -> Pictures:
        """Changed images (len(rows), band, y, x)."""
        return self.change(self.images[rows])


def part_of(observed: Observed, change: Change) -> Observed:
    """A dataset whose images are changed when they are read."""
    return Observed(cast(Shards, Changed(observed.images, change)), observed.table)


def r_magnitude(observed: Observed) -> Array:
    """Apparent magnitude (image,), AB, of all light in r, or in the first band without r."""
    survey = observed.survey
    column = survey.bands.index("r") if "r" in survey.bands else 0
    return np.concatenate(
        [
            magnitudes(observed.images[piece], survey.bands, survey.pixel_scale_arcsec)[:, column]
            for piece in pieces_of(np.arange(len(observed.table)), AT_ONCE)
        ]
    )


def bins_of(values: Array, bins: int = BINS) -> NDArray[np.int64]:
    """Bin (n,) of each value, with equal numbers in each."""
    rank = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return np.asarray(rank * bins // len(values), dtype=np.int64)


def shuffled(observed: Observed, bins: NDArray[np.int64], rng: np.random.Generator) -> Observed:
    """A dataset whose distances and redshifts change places within bins and splits.

    Parameters
    ----------
    observed : Observed
        Dataset; its test split is neither read nor changed.
    bins : ndarray of int, (image,)
        Bin of each image.
    rng : numpy.random.Generator
        Shuffles.

    Returns
    -------
    Observed
    """
    table = observed.table.copy()
    for split in ("train", "validation"):
        for bin_ in np.unique(bins):
            rows = observed.rows(split)
            rows = rows[bins[rows] == bin_]
            other = rng.permutation(rows)
            for name in ("distance_mpc", "velocity_kms", "distance_z_mpc"):
                table[name][rows] = observed.table[name][other]
    return Observed(observed.images, table)


def within_bins(values: Array, bins: NDArray[np.int64]) -> Array:
    """Values (n,) minus the mean of their bin."""
    _, which = np.unique(bins, return_inverse=True)
    return np.asarray(values - (np.bincount(which, values) / np.bincount(which))[which])


def distances_mpc(observed: Observed, split: str) -> Array:
    """True distances (n,), Mpc, of a split."""
    return np.asarray(observed.table["distance_mpc"].to_value(u.Mpc)[observed.rows(split)])
