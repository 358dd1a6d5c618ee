"""Read SUNRISE broadband files: the public Illustris images, and stand-ins.

The format is that of Jonsson (2006, MNRAS 372, 2) as used by Torrey et al. (2015, MNRAS 447, 2753).
HDUs and filters are found by name. A genuine file has 36 filters, a stand-in five.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from peculiar.core.errors import InputError
from peculiar.core.photometry import BANDS, SUNRISE_FILTERS
from peculiar.galaxies.fits import (
    REFETCH,
    column,
    column_names,
    header_number,
    open_fits,
    plane,
    subhalo_of_name,
)
from peculiar.galaxies.galaxy import Galaxy

NUMBER_OF_CAMERAS = 4
IMAGE_UNIT = "W/m/m^2/sr"
GIVE = "give a SUNRISE broadband file of Illustris"
# Python's own `float` also reads 1_0 and the digits of every script
MASS_LINE = re.compile(r"\S+\s+(\d+)\s+([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)", re.ASCII)


def recognises(hdus: fits.HDUList) -> bool:
    """Whether a file is a SUNRISE broadband file, by its HDUs."""
    return "FILTERS" in hdus and "CAMERA0-BROADBAND-NONSCATTER" in hdus


def bands_in(path: Path) -> tuple[str, ...]:
    """SDSS bands of a file, in the order of `BANDS`; raises as `read_broadband` does."""
    with open_fits(path) as hdus:
        filters = filter_names(path, hdus)
        return tuple(band for band in BANDS if SUNRISE_FILTERS[band] in filters)


def read_broadband(path: Path, bands: Sequence[str]) -> Galaxy:
    """Read the images of one galaxy, one camera at a time and only the given bands.

    Parameters
    ----------
    path : Path
        File `broadband_{id}.fits`.
    bands : sequence of str
        SDSS bands, in the order wanted.

    Returns
    -------
    Galaxy
        Images (camera=4, band, y, x) in W/m/m^2/sr and kpc per pixel (camera,), both as in the
        file. The mass (LOGMSTAR), the half-mass radius (HALFMASS, kpc), the absolute magnitudes
        (band,) (ABSMAG_G, ...) and AB magnitudes (camera=4, band) (AB_mag_nonscatter0, ... of
        FILTERS) are NaN where the file does not give them.

    Raises
    ------
    InputError
        When the file is missing, not FITS or truncated; when an HDU, filter, card or pixel is
        missing or invalid.
    """
    with open_fits(path) as hdus:
        filters = filter_names(path, hdus)
        planes = [_index(path, filters, band) for band in bands]
        cubes = [_cube(path, hdus, camera, len(filters)) for camera in range(NUMBER_OF_CAMERAS)]
        if len({cube.shape for cube in cubes}) > 1:
            raise InputError(f"{path} has cameras of different sizes: {GIVE}")
        header = hdus[0].header
        made_here = "stand-in" in str(header.get("ORIGIN", ""))
        subhalo = header.get("SUBHALO")
        return Galaxy(
            id=subhalo if isinstance(subhalo, int) else subhalo_of_name(path),
            images=np.stack([_images(path, cube, planes, bands) for cube in cubes]),
            kpc_per_pixel=np.array(
                [_kpc_per_pixel(path, hdus, *item) for item in enumerate(cubes)]
            ),
            source=f"{'stand-in' if made_here else 'illustris'}:{path.name}",
            log10_stellar_mass=_optional(path, header, "LOGMSTAR"),
            half_mass_radius_kpc=_optional(path, header, "HALFMASS"),
            absolute_mag=np.array(
                [_optional(path, header, f"ABSMAG_{band.upper()}", -np.inf) for band in bands]
            ),
            mag_ab=np.stack(
                [_mag_ab(path, hdus, camera, planes) for camera in range(NUMBER_OF_CAMERAS)]
            ),
        )


def _optional(path: Path, header: fits.Header, key: str, above: float = 0.0) -> float:
    """Number in a header; NaN if the card is missing."""
    return header_number(path, header, key, above) if key in header else np.nan


def _cube(path: Path, hdus: fits.HDUList, camera: int, filters: int) -> fits.ImageHDU:
    """HDU of the images of one camera, after checks of shape and unit; the data are not read."""
    name = f"CAMERA{camera}-BROADBAND-NONSCATTER"
    hdu = _hdu(path, hdus, name)
    if len(hdu.shape) != 3 or hdu.shape[0] != filters or hdu.shape[1] != hdu.shape[2]:
        raise InputError(
            f"{path} has a cube of shape {hdu.shape} in {name}, not ({filters}, N, N) as in its "
            f"FILTERS: {GIVE}"
        )
    unit = str(hdu.header.get("IMUNIT", "")).strip()
    if unit != IMAGE_UNIT:
        raise InputError(f"{path} has IMUNIT {unit!r} in {name}, not {IMAGE_UNIT!r}: {GIVE}")
    return hdu


def _images(
    path: Path, cube: fits.ImageHDU, planes: Sequence[int], bands: Sequence[str]
) -> NDArray[np.float32]:
    """Images (band, y, x) in W/m/m^2/sr of one camera."""
    camera = cube.name.split("-")[0].replace("CAMERA", "camera ")
    names = [f"{camera}, band {band}" for band in bands]
    images = [plane(path, cube, k, name) for k, name in zip(planes, names, strict=True)]
    for image, name in zip(images, names, strict=True):
        # SUNRISE counts photons, so a negative value means damage
        if image.min(initial=0) < 0:
            raise InputError(f"{path} has negative surface brightness in {name}: {REFETCH}")
    return np.stack(images)


def _mag_ab(
    path: Path, hdus: fits.HDUList, camera: int, planes: Sequence[int]
) -> NDArray[np.float64]:
    """AB magnitudes (band,) of one camera in FILTERS; NaN if missing or without light."""
    table, name = _hdu(path, hdus, "FILTERS"), f"AB_mag_nonscatter{camera}"
    if name not in column_names(path, table):
        return np.full(len(planes), np.nan)
    mags = column(path, table, name, float)[list(planes)]
    return np.where(np.isfinite(mags), mags, np.nan)


def _hdu(path: Path, hdus: fits.HDUList, name: str) -> fits.ImageHDU | fits.BinTableHDU:
    if name not in hdus:
        raise InputError(
            f"{path} has no {name}, so it is truncated or of another format: {REFETCH}, or {GIVE}"
        )
    kind = fits.BinTableHDU if name == "FILTERS" else fits.ImageHDU
    if not isinstance(hdus[name], kind):
        raise InputError(f"{path} has a {name} that is not a {kind.__name__}: {GIVE}")
    return hdus[name]


def filter_names(path: Path, hdus: fits.HDUList) -> list[str]:
    """Filter of each plane, in order, from the first column of FILTERS, without padding."""
    return [name.strip() for name in column(path, _hdu(path, hdus, "FILTERS"), 0, str).tolist()]


def _index(path: Path, filters: list[str], band: str) -> int:
    if SUNRISE_FILTERS[band] not in filters:
        raise InputError(
            f"{path} has no filter {SUNRISE_FILTERS[band]}: give a file that has it, or remove "
            f"band {band}"
        )
    return filters.index(SUNRISE_FILTERS[band])


def _kpc_per_pixel(path: Path, hdus: fits.HDUList, camera: int, hdu: fits.ImageHDU) -> float:
    """Physical pixel scale, kpc; each galaxy of Illustris has its own field of view."""
    parameters = f"CAMERA{camera}-PARAMETERS"
    if parameters in hdus and "linear_fov" in hdus[parameters].header:
        return header_number(path, hdus[parameters].header, "linear_fov") / int(hdu.shape[-1])
    if "CD1_1" in hdu.header:
        return header_number(path, hdu.header, "CD1_1")
    raise InputError(
        f"{path} has neither linear_fov in {parameters} nor CD1_1 in the image, so its pixel "
        f"scale is unknown: {GIVE}"
    )


def read_masses(path: Path) -> dict[int, float]:
    """Read the subhaloes with images, and their masses, from the catalogue of Illustris.

    Parameters
    ----------
    path : Path
        `directory_catalog_135.txt`: lines of folder, subhalo number, log10(M*/Msun).

    Returns
    -------
    dict of int to float
        log10(M*/Msun) of each subhalo number.

    Raises
    ------
    InputError
        When the file is missing or a folder, a line has another form, or a subhalo is there twice.
    """
    masses: dict[int, float] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, UnicodeDecodeError):
        raise InputError(f"{path} is not a catalogue of subhaloes: correct the path") from None
    for row, line in enumerate(lines, start=1):
        match = MASS_LINE.fullmatch(line.strip())
        if match is None:
            raise InputError(
                f"{path} has {line[:60]!r} in line {row}, not a folder, a subhalo number and "
                "log10(M*/Msun): correct the line"
            )
        subhalo, mass = int(match[1]), float(match[2])
        if masses.setdefault(subhalo, mass) != mass:
            raise InputError(f"{path} has two masses of subhalo {subhalo}, line {row}: keep one")
    return masses
