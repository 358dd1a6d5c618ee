"""Reader of SUNRISE broadband files: the public Illustris images and our stand-ins for them.

The format is that of Jonsson (2006, MNRAS 372, 2) as Torrey et al. (2015, MNRAS 447, 2753) used
it. HDUs and filters are found by name; a genuine file has 36 filters, a stand-in five.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from peculiar.bands import SUNRISE_FILTERS
from peculiar.errors import InputError
from peculiar.fitsfile import MEND, number, open_whole, plane, subhalo_of_name
from peculiar.galaxies import Galaxy

CAMERAS = 4
UNIT = "W/m/m^2/sr"


def read_broadband(path: Path, bands: Sequence[str]) -> Galaxy:
    """Read the images of one galaxy, one camera at a time and only the bands asked for.

    Parameters
    ----------
    path : Path
        File `broadband_{id}.fits`.
    bands : sequence of str
        SDSS bands, in the order wanted.

    Returns
    -------
    Galaxy
        Images (camera=4, band, y, x) in W/m/m^2/sr and kpc per pixel (camera,), both as the file
        has them; the mass is NaN where the file does not give it.

    Raises
    ------
    InputError
        When the file is not FITS, truncated, or lacks or contradicts what is needed.
    """
    with open_whole(path) as hdus:
        header = hdus[0].header
        made_here = "stand-in" in str(header.get("ORIGIN", ""))
        cameras = [_camera(path, hdus, camera, bands) for camera in range(CAMERAS)]
        if len({images.shape for images, _ in cameras}) > 1:
            raise InputError(f"{path} has cameras of different sizes: {MEND}")
        subhalo = header.get("SUBHALO")
        return Galaxy(
            id=subhalo if isinstance(subhalo, int) else subhalo_of_name(path),
            log10_stellar_mass=number(path, header, "LOGMSTAR") if "LOGMSTAR" in header else np.nan,
            images=np.stack([images for images, _ in cameras]),
            kpc_per_pixel=np.array([scale for _, scale in cameras]),
            source=f"{'stand-in' if made_here else 'illustris'}:{path.name}",
        )


def _camera(
    path: Path, hdus: fits.HDUList, camera: int, bands: Sequence[str]
) -> tuple[NDArray[np.float32], float]:
    """Images (band, y, x) in W/m/m^2/sr and kpc per pixel of one camera."""
    name = f"CAMERA{camera}-BROADBAND-NONSCATTER"
    hdu = _hdu(path, hdus, name)
    filters = _filter_names(path, hdus)
    if len(hdu.shape) != 3 or hdu.shape[0] != len(filters) or hdu.shape[1] != hdu.shape[2]:
        raise InputError(
            f"{path} has in {name} a cube of shape {hdu.shape}, not ({len(filters)}, N, N) as its "
            f"FILTERS say: {MEND}"
        )
    unit = str(hdu.header.get("IMUNIT", "")).strip()
    if unit != UNIT:
        raise InputError(f"{path} has IMUNIT {unit!r} in {name}, not {UNIT!r}: {MEND}")
    images = [
        plane(path, hdu, _index(path, filters, band), f"camera {camera}, band {band}")
        for band in bands
    ]
    return np.stack(images), _kpc_per_pixel(path, hdus, camera, hdu)


def _hdu(path: Path, hdus: fits.HDUList, name: str) -> fits.ImageHDU | fits.BinTableHDU:
    if name not in hdus:
        raise InputError(f"{path} has no {name}, so it is cut off or of another format: {MEND}")
    kind = fits.BinTableHDU if name == "FILTERS" else fits.ImageHDU
    if not isinstance(hdus[name], kind):
        raise InputError(f"{path} has a {name} that is no {kind.__name__}: {MEND}")
    return hdus[name]


def _filter_names(path: Path, hdus: fits.HDUList) -> list[str]:
    """Filter of each plane, in order, from the first column of FILTERS; padding taken off."""
    hdu = _hdu(path, hdus, "FILTERS")
    try:
        return [str(name).strip() for name in hdu.data.field(0)]
    except (LookupError, ValueError, TypeError, AttributeError):  # astropy, on mangled columns
        raise InputError(f"{path} has no readable table in FILTERS: {MEND}") from None


def _index(path: Path, filters: list[str], band: str) -> int:
    if SUNRISE_FILTERS[band] not in filters:
        raise InputError(
            f"{path} has no filter {SUNRISE_FILTERS[band]}: {MEND}, or leave band {band} out"
        )
    return filters.index(SUNRISE_FILTERS[band])


def _kpc_per_pixel(path: Path, hdus: fits.HDUList, camera: int, hdu: fits.ImageHDU) -> float:
    """Physical pixel scale, kpc; fields of view differ from galaxy to galaxy in Illustris."""
    parameters = f"CAMERA{camera}-PARAMETERS"
    if parameters in hdus and "linear_fov" in hdus[parameters].header:
        return number(path, hdus[parameters].header, "linear_fov") / int(hdu.shape[-1])
    if "CD1_1" in hdu.header:
        return number(path, hdu.header, "CD1_1")
    raise InputError(
        f"{path} has neither linear_fov in {parameters} nor CD1_1 in the image, so its pixel "
        f"scale is unknown: {MEND}"
    )


def read_catalogue(path: Path) -> dict[int, float]:
    """Read which subhaloes have images, and their masses.

    Parameters
    ----------
    path : Path
        The project's `directory_catalog_135.txt`: lines of folder, subhalo number, log10(M*/Msun).

    Returns
    -------
    dict of int to float
        log10(M*/Msun) of each subhalo number.

    Raises
    ------
    InputError
        When it is missing, or a line is not of that form.
    """
    masses: dict[int, float] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, UnicodeDecodeError):
        raise InputError(f"{path} is no catalogue of subhaloes: mend the path") from None
    for row, line in enumerate(lines, start=1):
        try:
            _, subhalo, mass = line.split()
            masses[int(subhalo)] = float(mass)
        except ValueError:
            raise InputError(
                f"{path} has {line[:60]!r} in line {row}, not a folder, a subhalo number and "
                "log10(M*/Msun): mend that line"
            ) from None
    return masses
