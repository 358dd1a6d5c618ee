"""Scenes without information on distance: their angular statistics are the same at any distance.

A scene is drawn on the raw pixels that a galaxy at distance D would have, and passes through
`peculiar.mock.images.views` as galaxies do. What a network learns of D from scenes, it learns from
pixels, resampling and padding. A flat field shows rims and factors; Gaussian blobs of a fixed
angular size show the sharpness of a resampler.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import astropy.units as u
import numpy as np
import torch
from astropy.table import QTable
from numpy.typing import NDArray
from scipy.special import ndtr
from threadpoolctl import threadpool_limits

from peculiar.core.dataset import RAW_COLUMNS, Observed, open_set
from peculiar.core.photometry import surface_brightness
from peculiar.core.survey import Simulated, Survey
from peculiar.mock.distances import draw_distances_mpc
from peculiar.mock.images import read_kpc, views
from peculiar.mock.resample import kpc_per_arcsec
from peculiar.training.predictions import column_mpc

Array = NDArray[np.float64]
FLAT = "flat field"
# deviation of the blobs of each kind, output pixels; 0 for none
KINDS: Mapping[str, float] = {
    "structure of 0.5 pixels": 0.5,
    "structure of 1 pixel": 1.0,
    FLAT: 0.0,
}
BRIGHTNESS = (20.0, 24.0)  # of a typical blob's peak or a flat field in r, AB mag/arcsec^2
# magnitude in each band minus that in r, about that of a galaxy
COLOUR = {"u": 2.2, "g": 0.7, "r": 0.0, "i": -0.35, "z": -0.6}
COLOUR_SCATTER, FLUX_SCATTER = 0.3, 1.0  # mag
# of a typical blob's peak: without it, exact zeros lie where no blob reaches, and the ends of their
# reach are whole raw pixels
SKY = 1e-3
BLOBS = 300  # mean number
MARGIN = 16  # output pixels that blobs reach beyond the frame
SCENE, TABLE_DRAW = 3, 4  # separate random streams of one seed


@dataclass(frozen=True)
class RawGrid:
    """Raw pixels of a dataset.

    Attributes
    ----------
    pixels : int
        Pixels along one side.
    kpc_per_pixel : ndarray, (m,)
        Pixel scales of its images, kpc; NaN for real galaxies.
    scale_arcsec : ndarray, (m,)
        Pixel scales of real images, arcsec; NaN for simulated galaxies.
    """

    pixels: int
    kpc_per_pixel: Array
    scale_arcsec: Array

    @classmethod
    def read(cls, raw: Path) -> "RawGrid":
        """Read the grid of the output of `fetch`; `InputError` where it is missing or damaged."""
        images, galaxies = open_set(raw, RAW_COLUMNS)
        kpc = galaxies["kpc_per_pixel"].to_value(u.kpc)
        arcsec = np.repeat(galaxies["pixel_scale_arcsec"].to_value(u.arcsec), kpc.shape[1])
        return cls(images.shape[-1], kpc.ravel(), arcsec)

    def draw_kpc(self, distance_mpc: Array, rng: np.random.Generator) -> Array:
        """Draw the pixel scale (n,), kpc, of a galaxy of the dataset for each distance (n,)."""
        row = rng.integers(len(self.kpc_per_pixel), size=len(distance_mpc))
        simulated = self.kpc_per_pixel[row]
        return np.where(
            np.isnan(simulated), kpc_per_arcsec(distance_mpc) * self.scale_arcsec[row], simulated
        )


def blobs(
    rng: np.random.Generator, sigma: float, bands: Sequence[str], edges: Array, frame: float
) -> NDArray[np.float32]:
    """Gaussian blobs at random positions before a faint sky, integrated over pixels.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws their number, positions, fluxes and colours.
    sigma : float
        Deviation, output pixels.
    bands : sequence of str, (band,)
        SDSS bands.
    edges : ndarray, (pixels + 1,)
        Edges of the raw pixels from the middle, output pixels.
    frame : float
        Side of the frame, output pixels; blobs cover it and a margin, whatever `edges` are.

    Returns
    -------
    ndarray, (band, pixels, pixels), float32
        Mean surface brightness in each pixel, W/m/m^2/sr.
    """
    typical = rng.uniform(*BRIGHTNESS)
    number = int(rng.poisson(BLOBS))
    half = frame / 2 + MARGIN
    mag = typical + rng.normal(0, FLUX_SCATTER, number)
    peak = np.stack([_brightness(rng, mag, band) for band in bands]).astype(np.float32)
    pixel = edges[1] - edges[0]
    # a Gaussian of peak 1, averaged over a pixel, in each direction
    down, across = (
        (np.diff(ndtr((edges - at[:, None]) / sigma)) * (np.sqrt(2 * np.pi) * sigma / pixel))
        for at in rng.uniform(-half, half, (2, number))
    )
    # one product for all bands
    pixels = len(edges) - 1
    lines = across.astype(np.float32)[:, None] * peak.T[:, :, None]
    light = down.T.astype(np.float32) @ lines.reshape(number, len(bands) * pixels)
    sky = [SKY * float(surface_brightness(np.asarray(typical + COLOUR[b]), b)) for b in bands]
    light = light.reshape(pixels, len(bands), pixels).swapaxes(0, 1)
    return np.asarray(light + np.array(sky, np.float32)[:, None, None])


def _brightness(rng: np.random.Generator, r_mag: Array, band: str) -> Array:
    """Surface brightness in a band, W/m/m^2/sr, for one in r, AB mag/arcsec^2, of any colour."""
    colour = COLOUR[band] + rng.normal(0, COLOUR_SCATTER, r_mag.shape)
    return np.asarray(surface_brightness(r_mag + colour, band))


def flat_field(rng: np.random.Generator, bands: Sequence[str], pixels: int) -> NDArray[np.float32]:
    """Draw one brightness, W/m/m^2/sr, for all pixels of a band: (band, pixels, pixels)."""
    typical = np.asarray(rng.uniform(*BRIGHTNESS))
    levels = [float(_brightness(rng, typical, band)) for band in bands]
    return np.broadcast_to(
        np.array(levels, np.float32)[:, None, None], (len(bands), pixels, pixels)
    )


def scene_views(
    survey: Survey,
    grid_pixels: int,
    kinds: Sequence[str],
    distance_mpc: Array,
    kpc_per_pixel: Array,
    seed: int,
    first: int,
) -> NDArray[np.float32]:
    """Observe scenes at given distances, as `observe` does with galaxies.

    Parameters
    ----------
    survey : Survey
        Bands, pixels, dimming and instrument.
    grid_pixels : int
        Raw pixels along one side.
    kinds : sequence of str, (n,)
        Keys of `KINDS`.
    distance_mpc, kpc_per_pixel : ndarray, (n,)
        Distance, Mpc, and raw pixel scale, kpc.
    seed, first : int
        Seed, and number of the first scene: each scene has its own random stream.

    Returns
    -------
    ndarray, (n, band, y, x), float32
        Surface brightness, W/m/m^2/sr.
    """
    raw = np.empty((len(kinds), len(survey.bands), grid_pixels, grid_pixels), np.float32)
    rngs = [np.random.default_rng([seed, SCENE, first + k]) for k in range(len(kinds))]
    per_arcsec = kpc_per_arcsec(distance_mpc, survey.law.redshift(distance_mpc))
    ratio = kpc_per_pixel / per_arcsec / survey.pixel_scale_arcsec
    # scenes share the cores, not matrix products, whose threads would wait for each other
    with threadpool_limits(1, "blas"):
        for image, kind, rng, scale in zip(raw, kinds, rngs, ratio, strict=True):
            if kind == FLAT:
                image[:] = flat_field(rng, survey.bands, grid_pixels)
                continue
            edges = (np.arange(grid_pixels + 1) - grid_pixels / 2) * scale
            image[:] = blobs(rng, KINDS[kind], survey.bands, edges, survey.pixels)
    offset = np.zeros((len(kinds), 2))
    device = torch.device("cpu")
    seen = views(raw, kpc_per_pixel, distance_mpc, offset, survey.pixels, survey, rngs, device)
    return np.asarray(seen.numpy())


def scene_table(observed: Observed, grid: RawGrid, scenes: int, unseen: int, seed: int) -> QTable:
    """Draw kinds, distances, velocities and splits of scenes, distributed as in a dataset.

    Parameters
    ----------
    observed : Observed
        The dataset. Distances of simulated galaxies are drawn anew; those of real galaxies, and
        their redshifts, are drawn from its training split.
    grid : RawGrid
        Its raw pixels.
    scenes : int
        Scenes of each kind to train on; a fifth as many are for validation.
    unseen : int
        Scenes of each kind of the split `test`.
    seed : int
        Seed.

    Returns
    -------
    QTable
        `OBSERVED_COLUMNS`, kind, and kpc_per_pixel; `meta` holds the survey.
    """
    rng = np.random.default_rng([seed, TABLE_DRAW])
    survey = observed.survey
    counts = np.array([scenes, max(scenes // 5, 10), unseen]) * len(KINDS)
    size = int(counts.sum())
    if isinstance(survey.distances, Simulated):
        distance = draw_distances_mpc(survey.distances, size, rng)
        distance_z = distance + rng.normal(0, survey.sigma_z_mpc, size)
    else:
        row = rng.choice(observed.rows("train"), size)
        distance = column_mpc(observed, "distance_mpc")[row]
        distance_z = column_mpc(observed, "distance_z_mpc")[row]
    table = QTable()
    table["galaxy"] = np.arange(size)
    table["camera"] = np.zeros(size, dtype=np.int64)
    table["distance_mpc"] = distance * u.Mpc
    table["velocity_kms"] = (distance_z - distance) * survey.H0_kms_mpc * u.km / u.s
    table["distance_z_mpc"] = distance_z * u.Mpc
    table["split"] = np.repeat(["train", "validation", "test"], counts)
    table["kind"] = np.array(list(KINDS))[np.arange(size) % len(KINDS)]
    stated = grid.draw_kpc(distance, rng)
    table["kpc_per_pixel"] = read_kpc(survey.scale, stated, grid.pixels) * u.kpc
    table.meta = survey.model_dump(mode="json")
    return table


def of_kind(scenes: Observed, kind: str) -> Observed:
    """The scenes of one kind: all others are in no split."""
    table = scenes.table.copy()
    table["split"] = np.where(np.asarray(table["kind"]) == kind, table["split"], "")
    return Observed(scenes.images, table)
