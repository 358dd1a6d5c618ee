"""Distances from plain photometry by regression: fluxes, sizes, and photutils' catalogue."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from photutils.segmentation import SourceCatalog, detect_sources
from sklearn.ensemble import HistGradientBoostingRegressor

from experiments.spread import spread
from peculiar.core.dataset import Observed
from peculiar.core.photometry import surface_brightness
from peculiar.mock.images import fresh_views
from peculiar.networks.inference import pieces_of
from peculiar.training.predictions import column_mpc
from peculiar.velocity.metrics import l2

AT_ONCE = 64
DRAWS = 5  # distances of each training image that regressors learn from
ISOPHOTE = 25  # limit of a catalogue's galaxies, AB mag/arcsec^2 in r
CATALOGUE = (
    "segment_area",
    "equivalent_radius",
    "kron_flux",
    "kron_radius",
    "semimajor_axis",
    "ellipticity",
    "gini",
    "max_value",
    "fwhm",
)
RADII = (0.2, 0.5, 0.8)  # shares of the Kron flux
Array = NDArray[np.float64]
Pictures = NDArray[np.float32]


def plain(images: Pictures) -> dict[str, Array]:
    """Numbers of images (n, band, y, x): fluxes and colours, and sizes."""
    flux = images.sum(axis=(-2, -1)).clip(1e-12)
    half = (images.shape[-1] - 1) / 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    order = np.argsort(np.hypot(x, y), axis=None)
    radius = np.hypot(x, y).ravel()[order]
    sizes = []
    for band in range(images.shape[1]):
        growth = images[:, band].reshape(len(images), -1)[:, order].cumsum(axis=1)
        growth /= growth[:, -1:].clip(1e-12)
        for share in (0.2, 0.5, 0.8, 0.9):
            sizes.append(radius[(growth < share).sum(axis=1).clip(max=len(radius) - 1)])
    return {
        "fluxes": np.log10(np.column_stack([flux[:, 0], flux[:, 1:] / flux[:, :-1]])),
        "sizes": np.log10(np.column_stack(sizes)),
    }


def catalogued(images: Pictures, bands: Sequence[str]) -> dict[str, Array]:
    """Photutils' measurements of the galaxy in the middle, in r, and its colours within r's rim.

    What has no galaxy there as bright as the isophote has NaN, which trees take.
    """
    r, middle = bands.index("r"), images.shape[-1] // 2
    found = np.full((len(images), len(CATALOGUE) + len(RADII) + len(bands)), np.nan)
    for row, image in enumerate(images):
        limit = float(surface_brightness(ISOPHOTE, "r"))
        sources = detect_sources(image[r], limit, n_pixels=5)
        label = 0 if sources is None else int(sources.data[middle, middle])
        if sources is None or not label:
            continue
        galaxy = SourceCatalog(image[r].astype(float), sources).select_label(label)
        inside = sources.data == label
        flux = np.log10(image[:, inside].sum(axis=-1).clip(1e-30))
        shape = [getattr(galaxy, name) for name in CATALOGUE]
        radii = [galaxy.flux_radius(share) for share in RADII]
        numbers = [float(np.ravel(getattr(value, "value", value))[0]) for value in shape + radii]
        found[row] = [*numbers, flux[r], *np.diff(flux)]
    return {"catalogue": found}


def measured(images: Pictures, bands: Sequence[str]) -> dict[str, Array]:
    """All numbers of images."""
    return plain(images) | catalogued(images, bands)


def regressors(judge: Observed, learn: Observed, raw: Path) -> Iterator[str]:
    """L2(D) of gradient-boosted trees on numbers of images at fresh distances."""
    train, asked, bands = (
        learn.rows("train"),
        np.arange(len(judge.table)),
        learn.survey.bands,
    )
    draw = fresh_views(
        learn, raw, learn.images.shape[-1], "D_z", np.random.default_rng(1), torch.device("cpu")
    )
    known, labels = [], []
    for rows in pieces_of(np.tile(train, DRAWS), AT_ONCE):
        images, label = draw(rows)()
        known.append(measured(images.numpy(), bands))
        labels.append(label.numpy())
    new = [measured(judge.images[rows], bands) for rows in pieces_of(asked, AT_ONCE)]
    D_mpc = column_mpc(judge, "distance_mpc")
    for keys in (["fluxes"], ["sizes"], ["fluxes", "sizes"], ["catalogue"]):
        x, asked_x = (
            np.vstack([np.hstack([numbers[key] for key in keys]) for numbers in pieces])
            for pieces in (known, new)
        )
        found = []
        for seed in (4, 5, 6):
            trees = HistGradientBoostingRegressor(
                max_iter=200,
                learning_rate=0.05,
                max_leaf_nodes=8,
                l2_regularization=1.0,
                max_features=0.5,
                random_state=seed,
            ).fit(x, np.concatenate(labels))
            found.append(l2(D_mpc, trees.predict(asked_x)))
        name = "photutils' catalogue" if keys == ["catalogue"] else " and ".join(keys)
        yield f"- {name}: {spread(found)} Mpc"
