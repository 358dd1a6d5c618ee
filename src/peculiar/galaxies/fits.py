"""Read FITS files from elsewhere, plain or gzipped, and refuse damaged ones in one sentence."""

import os
import re
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from astropy.io import fits
from astropy.io.fits.verify import VerifyError
from astropy.utils.exceptions import AstropyWarning
from numpy.typing import NDArray

from peculiar.core.errors import InputError, NotFinite
from peculiar.galaxies.headers import TruncatedError, check_plain, unzipped

REFETCH = "delete it and fetch it again"
"""Advice for a damaged file. A file of the wrong kind would only come again."""
GZIP = b"\x1f\x8b"
FITS = b"SIMPLE"
ENDINGS = (".fits", ".fit", ".fts")  # of names, in any case; .gz may follow
NUMBERED = re.compile(r"(\d+)\.(fits|fit|fts)(\.gz)?$", re.ASCII | re.IGNORECASE)
MANGLED = (ValueError, TypeError, LookupError, AttributeError, VerifyError)
"""What astropy raises on mangled headers."""


@contextmanager
def open_fits(path: Path, memmap: bool = False) -> Iterator[fits.HDUList]:
    """Open a FITS file after checking that it is as long as its headers promise.

    Parameters
    ----------
    path : Path
        File to read. Only the headers of a plain file are read here. A gzipped file, recognised by
        its first bytes, is decompressed into memory.
    memmap : bool
        Map a plain file into memory, for a few columns of a large table. Without it, a file that
        is truncated while being read raises an error instead of SIGBUS.

    Yields
    ------
    astropy.io.fits.HDUList
        Its HDUs, for use inside the `with` block.

    Raises
    ------
    InputError
        When the file is missing, not FITS, or truncated, or a header is not valid or beyond the
        bounds of `peculiar.galaxies.headers`.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing: fetch it, or correct the path")
    # Opened here because astropy leaves files open that it cannot read.
    with path.open("rb") as file, warnings.catch_warnings():
        _check_kind(path, file)
        # Truncation is checked below; odd cards do no harm.
        warnings.simplefilter("ignore", AstropyWarning)
        try:
            content = _checked(file)
            hdus = fits.open(content, memmap=memmap and content is file)
            len(hdus)  # reads all headers
        except TruncatedError as error:
            raise InputError(f"{path} is truncated, {error}: {REFETCH}") from None
        except (OSError, EOFError, zlib.error, *MANGLED) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # a fault of the disk, not of the file
            raise _damaged(path, error) from None
        try:
            yield hdus
        except VerifyError as error:  # astropy parses cards on access
            raise _damaged(path, error) from None


def _check_kind(path: Path, file: BinaryIO) -> None:
    """Refuse a file that does not begin like FITS or gzip; a truncated or empty one may pass."""
    head = file.read(len(FITS))
    file.seek(0)
    if not any(kind.startswith(head[: len(kind)]) for kind in (FITS, GZIP)):
        raise InputError(
            f"{path} is not a FITS file: give a FITS file of Illustris, TNG SKIRT or the "
            "NASA-Sloan Atlas"
        )


def _checked(file: BinaryIO) -> BinaryIO:
    """Return the file itself, or its decompressed content, after checking all headers."""
    zipped = file.read(len(GZIP)) == GZIP
    file.seek(0)
    if zipped:
        return unzipped(file)
    check_plain(file, os.fstat(file.fileno()).st_size)
    file.seek(0)
    return file


def _damaged(path: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split()).rstrip(".")
    return InputError(f"{path} is not a complete FITS file ({reason}): {REFETCH}")


def is_fits_name(name: str) -> bool:
    """Whether a file's name is that of a FITS file; not of hidden ones, such as macOS' ._ files."""
    plain = name.lower().removesuffix(".gz")
    return plain.endswith(ENDINGS) and not name.startswith(".")


def header_number(path: Path, header: Mapping[str, Any], key: str, above: float = 0.0) -> float:
    """Read a finite number greater than `above` from a header, or raise `InputError`."""
    value = header.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not above < value < np.inf:
        raise InputError(
            f"{path} has no usable {key} ({value!r}, not a number above {above:g}): {REFETCH}"
        )
    return float(value)


def pixels(path: Path, hdu: fits.ImageHDU, part: int | slice = slice(None)) -> NDArray[np.float32]:
    """Read an image or a plane of a cube in the file's unit, or raise `InputError`."""
    try:
        # Values beyond float32 become infinite, or NaN where such a BSCALE meets 0, which `finite`
        # refuses.
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(hdu.section[part], dtype=np.float32)
    except MANGLED as error:
        raise _damaged(path, error) from None


def plane(path: Path, hdu: fits.ImageHDU, index: int, name: str) -> NDArray[np.float32]:
    """Read one plane (y, x) of a cube in the file's unit; `NotFinite` if it has bad pixels."""
    return finite(path, pixels(path, hdu, index), name)


def finite(path: Path, image: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    """Return the image, or raise `NotFinite` if it has NaN or infinite pixels."""
    bad = int(np.count_nonzero(~np.isfinite(image)))
    if bad:
        raise NotFinite(
            f"{path} has {bad} pixels that are not finite in {name}: set those without data to 0, "
            "or cut them off"
        )
    return image


def column_names(path: Path, hdu: fits.BinTableHDU) -> list[str]:
    """Read the column names of a table, or raise `InputError`."""
    try:
        return [str(name) for name in hdu.columns.names]
    except MANGLED as error:
        raise _damaged(path, error) from None


def column(path: Path, hdu: fits.BinTableHDU, name: str | int, kind: type) -> NDArray[Any]:
    """Read one column of a table, by name or number, as `kind`, or raise `InputError`."""
    try:
        return np.asarray(hdu.data.field(name)).astype(kind)
    except MANGLED:
        raise InputError(
            f"{path} has no readable column {name} in table {hdu.name or 1}: {REFETCH}"
        ) from None


def printable(path: Path, name: str, what: str) -> str:
    """Return a name in a file; `InputError` if it has characters that a terminal would obey."""
    if not name.isprintable():
        raise InputError(f"{path} has {what} named {name!r}, which is not printable: {REFETCH}")
    return name


def subhalo_of_name(path: Path) -> int:
    """Read the subhalo number from a name `broadband_{id}.fits[.gz]`, or raise `InputError`."""
    match = NUMBERED.search(path.name)
    named = match is not None and path.name[: match.start()].endswith("broadband_")
    if match is None or not named or int(match[1]) >= 2**63:
        raise InputError(f"{path} does not say which subhalo it is: name it broadband_ID.fits")
    return int(match[1])
