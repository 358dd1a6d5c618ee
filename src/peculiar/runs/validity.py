"""Ranges of distance, brightness, size, noise and sharpness of the training images.

Outside these ranges the errors of a network are unknown. All but the distance are measured within
the frame of each image.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import astropy.units as u
import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

from peculiar.core.dataset import Observed
from peculiar.core.once import FOLDER, remembered
from peculiar.core.params import Section
from peculiar.core.photometry import (
    fine_structure,
    half_light_arcsec,
    magnitudes,
    pixel_noise_w_m3_sr,
)
from peculiar.core.progress import progress_bar
from peculiar.core.provenance import imported_code_digest

Array = NDArray[np.float64]
IMAGES_AT_ONCE = 256


def _ordered(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError("the least value must not be above the greatest")
    return ends


Ends = Annotated[tuple[float, float], AfterValidator(_ordered)]


class Validity(Section):
    """Least and greatest values of the training images.

    Attributes
    ----------
    distance_mpc : tuple of float
        Distance, Mpc.
    mag_ab : mapping from band to tuple of float
        Apparent AB magnitude within the frame, mag.
    half_light_arcsec : tuple of float
        Half-light radius of the mean over bands, arcsec.
    pixel_noise_w_m3_sr : mapping from band to tuple of float, or None
        Noise of single pixels, W/m/m^2/sr; None in older runs.
    fine_structure : tuple of float or None
        Sharpness of the bright parts (`peculiar.core.photometry.fine_structure`); None in older
        runs.
    prior : {"training", "flat"}
        Prior in p(D | image) of the network: the law of its training distances, in older runs, or
        flat.
    """

    distance_mpc: Ends
    mag_ab: Mapping[str, Ends]
    half_light_arcsec: Ends
    pixel_noise_w_m3_sr: Mapping[str, Ends] | None = None
    fine_structure: Ends | None = None
    prior: Literal["training", "flat"] = "training"


def validity_of(observed: Observed, split: str = "train") -> Validity:
    """Measure the ranges of a split, `IMAGES_AT_ONCE` images at a time.

    Parameters
    ----------
    observed : Observed
        Dataset.
    split : str
        One of `peculiar.core.dataset.SPLITS`.

    Returns
    -------
    Validity
        Distances are the limits of their distribution, if it has limits.
    """
    survey, rows = observed.survey, observed.rows(split)
    scale, bands = survey.pixel_scale_arcsec, survey.bands
    mags, radii, noises, structures = [], [], [], []
    with progress_bar("ranges of the images", len(rows)) as bar:
        for start in range(0, len(rows), IMAGES_AT_ONCE):
            images = observed.images[rows[start : start + IMAGES_AT_ONCE]]
            mags.append(magnitudes(images, bands, scale))
            radii.append(half_light_arcsec(images, scale))
            noises.append(pixel_noise_w_m3_sr(images))
            structures.append(fine_structure(images))
            bar.update(len(images))
    mag, radius = np.concatenate(mags), np.concatenate(radii)
    noise, structure = np.concatenate(noises), np.concatenate(structures)
    distance = observed.table["distance_mpc"][rows].to_value(u.Mpc)
    return Validity(
        distance_mpc=_ends(distance if survey.range_mpc is None else survey.range_mpc),
        mag_ab={band: _ends(mag[:, k]) for k, band in enumerate(bands)},
        half_light_arcsec=_ends(radius),
        # frames of a few pixels have neither
        pixel_noise_w_m3_sr=None
        if np.isnan(noise).all()
        else {band: _ends(noise[:, k]) for k, band in enumerate(bands)},
        fine_structure=None if np.isnan(structure).all() else _ends(structure),
        prior="flat",
    )


def validity_once(observed: Observed, data: str, root: Path) -> Validity:
    """`validity_of` the training split, measured once for all networks of a dataset.

    Parameters
    ----------
    observed : Observed
        Dataset.
    data : str
        Digest of its folder, from `core.provenance.digest`.
    root : Path
        Folder of the repository, which keeps the ranges; see `core.once`.
    """
    key = [data, imported_code_digest("peculiar.runs.validity")]
    path = root / FOLDER / f"validity-{observed.survey.dataset}.json"
    kept = remembered(path, key, lambda: validity_of(observed).model_dump(mode="json"))
    return Validity.model_validate_json(json.dumps(kept))


def _ends(values: Array | Sequence[float]) -> tuple[float, float]:
    return float(np.nanmin(values)), float(np.nanmax(values))
