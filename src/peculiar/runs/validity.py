"""Ranges of distance, brightness and size of the training images.

Outside these ranges the errors of a network are unknown. Brightness and size are measured within
the frame of each image.
"""

from collections.abc import Mapping, Sequence

import astropy.units as u
import numpy as np
from numpy.typing import NDArray

from peculiar.core.dataset import Observed
from peculiar.core.params import Section
from peculiar.core.photometry import half_light_arcsec, magnitudes

Array = NDArray[np.float64]
IMAGES_AT_ONCE = 256


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
    """

    distance_mpc: tuple[float, float]
    mag_ab: Mapping[str, tuple[float, float]]
    half_light_arcsec: tuple[float, float]


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
    mags, radii = [], []
    for start in range(0, len(rows), IMAGES_AT_ONCE):
        images = observed.images[rows[start : start + IMAGES_AT_ONCE]]
        mags.append(magnitudes(images, bands, scale))
        radii.append(half_light_arcsec(images, scale))
    mag, radius = np.concatenate(mags), np.concatenate(radii)
    distance = observed.table["distance_mpc"][rows].to_value(u.Mpc)
    return Validity(
        distance_mpc=_ends(distance if survey.range_mpc is None else survey.range_mpc),
        mag_ab={band: _ends(mag[:, k]) for k, band in enumerate(bands)},
        half_light_arcsec=_ends(radius),
    )


def _ends(values: Array | Sequence[float]) -> tuple[float, float]:
    return float(np.nanmin(values)), float(np.nanmax(values))
