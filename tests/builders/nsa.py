"""Files in the layouts of the NASA-Sloan Atlas."""

import gzip
import io

import numpy as np
from astropy.io import fits

NY, NX = 12, 15


BOTH_SIGNS = np.random.default_rng(0).normal(1, 1, (5, NY, NX)).astype(np.float32)


UV = np.zeros((4, 5), np.float32)  # GALEX pixels are larger


RA, DEC = 146.71421, -1.04124


NORTH, SOUTH = "J094651.40+010228.5", "J094651.40-010228.5"


ROWS = {
    "IAUNAME": [NORTH, SOUTH, SOUTH],
    "NSAID": [11, 12, 13],
    "PID": [3.0, 3.0, 40.0],
    "AID": [0.0, 2.0, 0.0],
    "RA": [RA, RA, RA],
    "DEC": [-DEC, DEC, DEC],
    "Z": [0.021, 0.022, -0.0003],
    "ZDIST": [0.0211, 0.0224, 0.0001],
    "PETROFLUX": [np.arange(1, 8) * 100.0, [-9999, 0, 10, 100, 1000, -1, np.nan], np.ones(7)],
}


FORMATS = {"IAUNAME": "19A", "NSAID": "J", "RA": "D", "DEC": "D", "PETROFLUX": "7E"}


def wcs_cards(x, y, scale=0.396):
    """Gnomonic projection with RA, DEC at the pixel x, y, counted from 0, north up."""
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": RA, "CRVAL2": DEC}
    cards |= {"CRPIX1": x + 1, "CRPIX2": y + 1, "CD1_1": -scale / 3600, "CD2_2": scale / 3600}
    return cards | {"CD1_2": 0.0, "CD2_1": 0.0}


def write(path, images, **cards):
    """Write images as HDUs with the same cards in each, gzipped if the name ends in .gz."""
    hdus = [fits.PrimaryHDU(images[0]), *(fits.ImageHDU(image) for image in images[1:])]
    for hdu in hdus:
        hdu.header.update({key: value for key, value in cards.items() if value is not None})
    content = io.BytesIO()
    fits.HDUList(hdus).writeto(content)
    zipped = path.suffix == ".gz"
    path.write_bytes(gzip.compress(content.getvalue()) if zipped else content.getvalue())
    return path


def parent(path, images=BOTH_SIGNS, weights=None, **cards):
    weights = np.ones_like(images) if weights is None else weights
    pairs = [hdu for pair in zip(images, weights, strict=True) for hdu in pair]
    return write(path, [*pairs, UV, UV, UV, UV], **cards)


def atlas(path, images=BOTH_SIGNS, **cards):
    return write(path, [*images, UV, UV], **cards)


def cutout(path, images=BOTH_SIGNS[:1], **cards):
    header = {"NSAID": 12, "Z": 0.02, "ZDIST": 0.021, "FILTER": "r", "BUNIT": "nanomaggy"}
    return write(path, images, **header | {"PIXSCALE": 0.396, "RA": RA, "DEC": DEC} | cards)


def write_catalogue(path, rows=ROWS, **formats):
    formats = FORMATS | formats
    columns = [fits.Column(name, formats.get(name, "E"), array=rows[name]) for name in rows]
    table = fits.BinTableHDU.from_columns(columns)
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path, overwrite=True)
    return path
