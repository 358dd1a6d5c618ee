"""FITS files of others, opened whole or refused with one sentence."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.io.fits.verify import VerifyError
from astropy.utils.exceptions import AstropyWarning
from numpy.typing import NDArray

from peculiar.errors import InputError

MEND = "delete it and fetch it again"


@contextmanager
def open_whole(path: Path) -> Iterator[fits.HDUList]:
    """Open a FITS file after checking that it is as long as its headers promise.

    Parameters
    ----------
    path : Path
        File to read; only headers are read here.

    Yields
    ------
    astropy.io.fits.HDUList
        Its HDUs, for use inside the `with` block.

    Raises
    ------
    InputError
        When it is missing, no FITS file, or truncated.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing: fetch it, or mend the path")
    # Opened here, since astropy leaves files open that it cannot read.
    with path.open("rb") as file, warnings.catch_warnings():
        # What astropy warns of (truncation, odd cards) is checked by us, or does no harm.
        warnings.simplefilter("ignore", AstropyWarning)
        try:
            # Without memory maps: a file cut while it is read is an error and not a SIGBUS.
            hdus = fits.open(file, memmap=False)
            missing = _end_of_data(hdus) - path.stat().st_size
        except (OSError, ValueError, TypeError, LookupError, AttributeError, VerifyError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk, not the file
            raise _damaged(path, error) from None
        if missing > 0:
            raise InputError(f"{path} is truncated, {missing} bytes are missing: {MEND}")
        try:
            yield hdus
        except VerifyError as error:  # cards are parsed when they are asked for
            raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split()).rstrip(".")
    return InputError(f"{path} is not a whole FITS file ({reason}): {MEND}")


def _end_of_data(hdus: fits.HDUList) -> int:
    """Byte after the last one that the headers promise."""
    infos = [hdu.fileinfo() for hdu in hdus]
    return max(int(info["datLoc"]) + int(info["datSpan"]) for info in infos)


def number(path: Path, header: fits.Header, key: str, above: float = 0.0) -> float:
    """Finite number greater than `above` in a header, or `InputError`."""
    value = header.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not above < value < np.inf:
        raise InputError(
            f"{path} has no usable {key} ({value!r}, not a number above {above:g}): {MEND}"
        )
    return float(value)


def plane(path: Path, hdu: fits.ImageHDU, index: int, name: str) -> NDArray[np.float32]:
    """Read one plane, (y, x) in the file's unit, of a cube; `InputError` where not finite."""
    image: NDArray[np.float32] = np.asarray(hdu.section[index], dtype=np.float32)
    bad = int(np.count_nonzero(~np.isfinite(image)))
    if bad:
        raise InputError(f"{path} has {bad} pixels that are not finite in {name}: {MEND}")
    return image


def subhalo_of_name(path: Path) -> int:
    """Subhalo number of a file called `broadband_{id}.fits`, or `InputError`."""
    match = re.search(r"broadband_(\d+)\.fits$", path.name)
    if match is None:
        raise InputError(f"{path} does not say which subhalo it is: name it broadband_ID.fits")
    return int(match[1])
