"""Check the headers of a FITS file on their raw blocks.

astropy believes headers: `NAXIS = 2147483648` makes it count for minutes, and large axes make it
allocate what is not there. Here each HDU is checked before astropy sees the file.
"""

import gzip
import io
import math
import re
from collections.abc import Callable, Mapping
from typing import BinaryIO

from astropy.io import fits
from astropy.io.fits.verify import VerifyError

BLOCK, CARD = 2880, 80  # bytes
MOST_HEADER_BLOCKS = 1000  # of an HDU: 36,000 cards
MOST_HDUS = 1000
MOST_AXES = 999  # FITS 4.0, section 4.4.1
MOST_TRAILING_BYTES = 10 * BLOCK  # after the last HDU: the rest of a tape's record
LARGEST_IMAGE_BYTES = 2**30
LARGEST_UNZIPPED_BYTES = 2**31
BITPIX = (8, 16, 32, 64, -32, -64)
CHECKED = re.compile(
    rb"(SIMPLE|XTENSION|BITPIX|Z?NAXIS\d*|PCOUNT|GCOUNT|GROUPS|BSCALE|BZERO|ZIMAGE|ZBITPIX"
    rb"|T(?:SCAL|ZERO)\d+) *",
    re.IGNORECASE,
)

Cards = Mapping[str, object]


class HeaderError(ValueError):
    """A header breaks the standard, or a bound of this module; the message says which card."""


class TruncatedError(HeaderError):
    """The file ends before the data that its headers promise."""


def check_hdus(read: Callable[[int], bytes], skip: Callable[[int], int]) -> None:
    """Check the header of each HDU, and that its data are there.

    Parameters
    ----------
    read : callable
        Maps a number of bytes to the next bytes of the file, fewer at its end.
    skip : callable
        Passes over a number of bytes; returns how many there were.

    Raises
    ------
    HeaderError
        When a header is not valid or beyond the bounds.
    TruncatedError
        When data are missing.
    """
    for number in range(MOST_HDUS):
        block = read(BLOCK)
        if number and block[:8] != b"XTENSION":
            _check_trailing(block, read)
            return
        size = _data_bytes(_cards(block, read, f"HDU {number}"), f"HDU {number}")
        found = skip(size)
        if found < size:
            raise TruncatedError(f"{size - found} bytes are missing")
    raise HeaderError(f"it has more than {MOST_HDUS} HDUs")


def unzipped(file: BinaryIO) -> io.BytesIO:
    """Decompress a FITS file into memory and check its headers on the way.

    No more is decompressed than the headers promise, nor than `LARGEST_UNZIPPED_BYTES`.

    Parameters
    ----------
    file : binary file
        At its start.

    Raises
    ------
    HeaderError, TruncatedError
        As in `check_hdus`.
    EOFError, OSError, zlib.error
        When the compressed data are cut or damaged.
    """
    content = io.BytesIO()
    with gzip.GzipFile(fileobj=file) as source:

        def read(size: int) -> bytes:
            if content.tell() + size > LARGEST_UNZIPPED_BYTES:
                raise HeaderError(
                    f"it would be larger than {LARGEST_UNZIPPED_BYTES} bytes when decompressed"
                )
            piece = source.read(size)
            content.write(piece)
            return piece

        check_hdus(read, lambda size: len(read(size)))
    content.seek(0)
    return content


def check_plain(file: BinaryIO, size: int) -> None:
    """Check a file that is not compressed, from its start, without reading its data.

    Parameters
    ----------
    file : binary file
        At its start.
    size : int
        Its length, bytes.

    Raises
    ------
    HeaderError, TruncatedError
        As in `check_hdus`.
    """

    def skip(count: int) -> int:
        count = min(count, size - file.tell())
        file.seek(count, io.SEEK_CUR)
        return count

    check_hdus(file.read, skip)


def _check_trailing(block: bytes, read: Callable[[int], bytes]) -> None:
    """Refuse a long rest, which astropy would read into memory in search of a header."""
    rest = len(block) + len(read(MOST_TRAILING_BYTES))
    if rest > MOST_TRAILING_BYTES:
        raise HeaderError(f"more than {MOST_TRAILING_BYTES} bytes after its last HDU are no FITS")


def _cards(block: bytes, read: Callable[[int], bytes], where: str) -> dict[str, object]:
    """Values of the cards to check, of the header that begins with a block."""
    images: dict[str, bytes] = {}
    for _ in range(MOST_HEADER_BLOCKS):
        for start in range(0, len(block) - CARD + 1, CARD):
            image = block[start : start + CARD]
            if image[:8] == b"END     ":
                return {key: _value(key, image, where) for key, image in images.items()}
            if match := CHECKED.fullmatch(image[:8]):
                key = match[1].decode().upper()
                if images.setdefault(key, image) != image:
                    raise HeaderError(f"{where} has {key} twice")
        if len(block) < BLOCK:
            raise HeaderError(f"{where} has no END card")
        block = read(BLOCK)
    raise HeaderError(f"{where} has no END card in its first {MOST_HEADER_BLOCKS * BLOCK} bytes")


def _value(key: str, image: bytes, where: str) -> object:
    try:
        return fits.Card.fromstring(image).value
    except (VerifyError, ValueError) as error:
        raise HeaderError(f"{where} has an unreadable {key} ({error})") from None


def _data_bytes(cards: Cards, where: str) -> int:
    """Length of an HDU's data as its checked header promises, filled to whole blocks, bytes."""
    kind = str(cards.get("XTENSION", "IMAGE")).strip()
    shape = _shape(cards, where)
    groups = cards.get("GROUPS") is True and shape[:1] == [0]
    elements = math.prod(shape[1:] if groups else shape) if shape else 0
    extra = _whole(cards, "PCOUNT", where, 0, otherwise=0)
    repeats = _whole(cards, "GCOUNT", where, 0, otherwise=1)
    size = abs(_bitpix(cards, "BITPIX", where)) // 8 * repeats * (extra + elements)
    if kind == "IMAGE":
        _check_image(size, where)
        _check_scale(cards, "BSCALE", "BZERO", where)
    for key in cards:
        if key.startswith(("TSCAL", "TZERO")):
            number = key[5:]
            _check_scale(cards, f"TSCAL{number}", f"TZERO{number}", where)
    if cards.get("ZIMAGE") is True:
        pixels = math.prod(_shape(cards, where, "Z"))
        _check_image(abs(_bitpix(cards, "ZBITPIX", where)) // 8 * pixels, where)
    return -(-size // BLOCK) * BLOCK


def _shape(cards: Cards, where: str, prefix: str = "") -> list[int]:
    """Length of each axis; `prefix` is "Z" for the image in a compressed HDU."""
    axes = _whole(cards, f"{prefix}NAXIS", where, 0, MOST_AXES)
    return [_whole(cards, f"{prefix}NAXIS{k}", where, 0) for k in range(1, axes + 1)]


def _whole(
    cards: Cards, key: str, where: str, least: int, most: int = 2**63, otherwise: int | None = None
) -> int:
    value = cards.get(key, otherwise)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        limits = f"from {least} on" if most == 2**63 else f"from {least} to {most}"
        raise HeaderError(f"{where} has {key} = {value!r}, not a whole number {limits}")
    return value


def _bitpix(cards: Cards, key: str, where: str) -> int:
    value = _whole(cards, key, where, min(BITPIX), max(BITPIX))
    if value not in BITPIX:
        raise HeaderError(f"{where} has {key} = {value}, not one of {', '.join(map(str, BITPIX))}")
    return value


def _check_image(size: int, where: str) -> None:
    if size > LARGEST_IMAGE_BYTES:
        raise HeaderError(
            f"{where} promises an image of {size:.4g} bytes, more than {LARGEST_IMAGE_BYTES}"
        )


def _check_scale(cards: Cards, scale: str, zero: str, where: str) -> None:
    """Refuse a scale that makes all values alike, or none finite."""
    for key, otherwise in ((scale, 1), (zero, 0)):
        value = cards.get(key, otherwise)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or (key == scale and value == 0):  # type: ignore[arg-type]
            raise HeaderError(f"{where} has {key} = {value!r}, which is no scale")
