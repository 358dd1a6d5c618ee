"""Extinction by dust of the Milky Way, which is removed from images of real galaxies.

An extinction of A magnitudes in a band dims by 10^(-0.4 A), so the image of the band is multiplied
by 10^(0.4 A): once, and never where the image has no such dust in it or has none left.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from peculiar.core.errors import InputError
from peculiar.galaxies.galaxy import Galaxy
from peculiar.registry.champion import Champion

Array = NDArray[np.float64]
PER_EBV = {"u": 4.239, "g": 3.303, "r": 2.285, "i": 1.698, "z": 1.263}
"""A_b / E(B-V) of the maps of Schlegel, Finkbeiner & Davis 1998, for R_V = 3.1 (Schlafly &
Finkbeiner 2011, ApJ 737, 103, table 6)."""
MOST_EBV, MOST_MAG = 5.0, 25.0  # more is a wrong unit, or in the plane, where no galaxy is seen
NOT_KNOWN = (
    "the Milky Way's dust is left in its image: give ebv, or the extinction of all bands of the "
    "model, 0 where it is removed already"
)
BY_ROWS = "A_b of each row removed; A_b / E(B-V) = " + ", ".join(
    f"{band} {value}" for band, value in PER_EBV.items()
)


def extinction_mag(ebv_mag: ArrayLike, bands: Sequence[str]) -> Array:
    """Extinctions of reddenings of the maps of Schlegel, Finkbeiner & Davis.

    Parameters
    ----------
    ebv_mag : array_like, any shape
        E(B-V), mag.
    bands : sequence of str, (band,)
        Bands, of `PER_EBV`.

    Returns
    -------
    ndarray, (..., band)
        A_b, mag.

    Raises
    ------
    InputError
        When there is no coefficient for a band.
    """
    for band in bands:
        if band not in PER_EBV:
            raise InputError(f"E(B-V) has no coefficient in band {band}: give its extinction, mag")
    return np.asarray(np.multiply.outer(ebv_mag, [PER_EBV[band] for band in bands]))


def without_dust(
    champion: Champion, galaxy: Galaxy, given_mag: Array | None, simulated: bool
) -> tuple[Galaxy, Array | None]:
    """Remove the extinction from a galaxy's images.

    Parameters
    ----------
    champion : Champion
        One that was trained on real images knows galaxies behind dust, and gets them so.
    galaxy : Galaxy
        With the champion's bands.
    given_mag : ndarray, (band,), or None
        Extinction, mag, in place of that of the galaxy's file; None for none given.
    simulated : bool
        Whether the galaxy is a simulated one.

    Returns
    -------
    Galaxy
        With brighter images.
    ndarray, (band,), or None
        Extinction that was removed, mag; None where it is not known in all bands.

    Raises
    ------
    InputError
        When an extinction is given for an image without the Milky Way's dust.
    """
    given = np.zeros(0) if given_mag is None else given_mag
    known = bool(np.isfinite(given).any())
    if simulated:
        reason = "is of a simulated galaxy, behind no dust of the Milky Way"
    elif champion.survey.measured:
        reason = f"is for version {champion.version}, trained on images with dust in them"
    elif galaxy.dust_removed:
        reason = "has DUSTCORR = T: its dust is removed already"
        known = bool(np.nan_to_num(given).any())
    else:
        A = galaxy.extinction_mag if given_mag is None else given_mag
        if A.shape != galaxy.images.shape[1:2] or not np.isfinite(A).all():
            return galaxy, None
        factor = (10 ** (0.4 * A)).astype(np.float32)
        return replace(galaxy, images=galaxy.images * factor[:, None, None]), A
    if known:
        raise InputError(f"{galaxy.source} {reason}: give no extinction")
    return galaxy, np.zeros(galaxy.images.shape[1])


def extinction_columns(bands: str, removed_mag: Sequence[Array | None]) -> dict[str, Array]:
    """Columns (n,) of the extinctions (band,) that were removed, mag; 0 where none was."""
    A = np.array([np.zeros(len(bands)) if one is None else one for one in removed_mag])
    columns = A.reshape(-1, len(bands)).T
    return {f"A_{band}": column for band, column in zip(bands, columns, strict=True)}


def dust_said(removed_mag: Iterable[ArrayLike]) -> str:
    """What was removed from the images of a table, for its metadata; from columns of A_b."""
    any_removed = any(np.nan_to_num(np.asarray(column, float)).any() for column in removed_mag)
    return BY_ROWS if any_removed else "none removed"
