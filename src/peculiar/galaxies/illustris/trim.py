"""Trim SUNRISE files to the wanted bands, and keep their layout."""

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from peculiar.core.errors import InputError
from peculiar.core.photometry import SUNRISE_FILTERS
from peculiar.galaxies.fits import MANGLED, REFETCH, open_fits

KEPT = r"BROADBAND|CAMERA[0-3]-PARAMETERS"
CUBE = r"CAMERA[0-3]-BROADBAND-NONSCATTER"


Card = tuple[int | float | str, str]
"""Value and comment in a FITS header."""


def trimmed(path: Path, bands: Sequence[str], cards: Mapping[str, Card]) -> bytes:
    """Keep only the wanted bands of a SUNRISE file, and only the images without scattering.

    The result has no dates, so the same input gives the same bytes.

    Parameters
    ----------
    path : Path
        File that `sunrise.read_broadband` can read.
    bands : sequence of str
        SDSS bands to keep, in the order of the file.
    cards : mapping of str to Card
        Cards of the primary header, besides ORIGIN of the original and the checksum of the images.

    Returns
    -------
    bytes
        The complete FITS file.

    Raises
    ------
    InputError
        When the file is not FITS or truncated, or a header that the reader does not need cannot be
        written again.
    """
    with open_fits(path) as hdus:
        try:
            return _content(hdus, {SUNRISE_FILTERS[band] for band in bands}, cards)
        except MANGLED as error:
            reason = type(error).__name__
            raise InputError(f"{path} has a mangled header ({reason}): {REFETCH}") from None


def _content(hdus: fits.HDUList, wanted: set[str], cards: Mapping[str, Card]) -> bytes:
    filters = hdus["FILTERS"].data.field(0)
    rows = [row for row, name in enumerate(filters) if str(name).strip() in wanted]
    kept = [fits.PrimaryHDU()]
    if "ORIGIN" in hdus[0].header:
        kept[0].header.append(hdus[0].header.cards["ORIGIN"])
    kept[0].header.update(cards)
    kept[0].header["SHA256"] = _checksum(hdus, rows)
    for hdu in hdus[1:]:
        if re.fullmatch(KEPT, hdu.name):
            kept.append(hdu)
        elif hdu.name == "FILTERS":
            kept.append(fits.BinTableHDU(hdu.data[rows], hdu.header))
        elif re.fullmatch(CUBE, hdu.name):
            kept.append(fits.ImageHDU(_planes(hdu, rows), hdu.header))
    content = io.BytesIO()
    fits.HDUList(kept).writeto(content, output_verify="ignore")
    return content.getvalue()


def intact(path: Path) -> bool:
    """Check that a trimmed file still has the images it was written with.

    Parameters
    ----------
    path : Path
        File from `trimmed`, or another SUNRISE file.

    Returns
    -------
    bool
        False if the images do not match the checksum; True for a file without checksum.
    """
    with open_fits(path) as hdus:
        header = hdus[0].header
        if "SHA256" not in header:
            return True
        try:
            rows = range(len(hdus["FILTERS"].data))
            return bool(header["SHA256"] == _checksum(hdus, rows))
        except MANGLED:
            return False


def _planes(hdu: fits.ImageHDU, rows: Sequence[int]) -> NDArray[np.float32]:
    """Some planes of a cube, (row, y, x), float32 as FITS stores it."""
    return np.stack([hdu.section[row] for row in rows]).astype(">f4")


def _checksum(hdus: fits.HDUList, rows: Sequence[int]) -> str:
    """sha256 of the kept planes only: damage to other planes does not change our files."""
    digest = hashlib.sha256()
    for hdu in hdus:
        if re.fullmatch(CUBE, hdu.name):
            digest.update(_planes(hdu, rows).tobytes())
    return digest.hexdigest()
