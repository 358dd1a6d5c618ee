"""Reader of the TNG images made with SKIRT (Rodriguez-Gomez et al. 2019, MNRAS 483, 4140)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits

from peculiar.core.errors import InputError
from peculiar.core.photometry import (
    ARCSEC_RAD,
    BANDS,
    SKIRT_FILTERS,
    SKIRT_ZEROPOINT_AB,
    flux_density,
)
from peculiar.galaxies.fits import (
    REFETCH,
    header_number,
    open_fits,
    plane,
    printable,
    subhalo_of_name,
)
from peculiar.galaxies.galaxy import Galaxy

COUNT_RATE_UNIT = "counts/s/pixel"


def recognises(hdus: fits.HDUList) -> bool:
    """Tell by its HDUs whether a file is a TNG SKIRT image."""
    return len(hdus[0].shape) == 3 and "FILTER0" in hdus[0].header


def bands_in(path: Path) -> tuple[str, ...]:
    """SDSS bands that a file holds, in the order of `BANDS`; refusals as in `read_skirt`."""
    with open_fits(path) as hdus:
        filters = filter_names(path, hdus[0])
        return tuple(
            band for band in BANDS if SKIRT_FILTERS[band] in filters and band in SKIRT_ZEROPOINT_AB
        )


def read_skirt(path: Path, bands: Sequence[str]) -> Galaxy:
    """Read the images of one galaxy as surface brightness at redshift zero.

    A count rate C per pixel is f_lambda = f_AB(zero point) C, and I = f_lambda / PIXSCALE^2 times
    (1 + USE_Z)^5. The last factor undoes Tolman's dimming, (1+z)^4, and the stretch of the
    wavelength interval, (1+z): the files are images as observed at USE_Z, whereas our simulated
    observations have no cosmic expansion. The filters stay those of the observer's frame (no K
    correction), and the files do not state their zero point, so that the common factor is
    uncertain.

    Parameters
    ----------
    path : Path
        File `..._broadband_{id}.fits`.
    bands : sequence of str
        SDSS bands among g, r, i, z, in the order wanted.

    Returns
    -------
    Galaxy
        Images (camera=1, band, y, x) in W/m/m^2/sr, kpc per pixel (camera=1,); the file does not
        give a mass, so it is NaN.

    Raises
    ------
    InputError
        When the file is not FITS, truncated, or lacks or contradicts what is needed.
    """
    with open_fits(path) as hdus:
        hdu = hdus[0]
        filters = filter_names(path, hdu)
        per_count = _solid_angle_correction(path, hdu.header)
        images = []
        for band in bands:
            if SKIRT_FILTERS[band] not in filters or band not in SKIRT_ZEROPOINT_AB:
                raise InputError(f"{path} has no filter {SKIRT_FILTERS[band]}: leave {band} out")
            counts = plane(path, hdu, filters.index(SKIRT_FILTERS[band]), f"band {band}")
            images.append(counts * (flux_density(SKIRT_ZEROPOINT_AB[band], band) * per_count))
        return Galaxy(
            id=subhalo_of_name(path),
            log10_stellar_mass=np.nan,
            images=np.stack(images)[None].astype(np.float32),
            kpc_per_pixel=np.array([header_number(path, hdu.header, "CDELT1") * 1e-3]),
            source=f"skirt:{path.name}",
        )


def filter_names(path: Path, hdu: fits.PrimaryHDU) -> list[str]:
    """Filter of each plane, in order, after checking the cube's shape and units."""
    if len(hdu.shape) != 3:
        raise InputError(
            f"{path} is not a TNG SKIRT image, which is one cube (bands, N, N) with FILTER0 and so "
            "on: remove it from fetch.skirt.folder, or correct fetch.source"
        )
    if hdu.shape[1] != hdu.shape[2]:
        raise InputError(f"{path} has an image of shape {hdu.shape}, not (bands, N, N): {REFETCH}")
    for key, unit in (("BUNIT", COUNT_RATE_UNIT), ("CTYPE1", "pc")):
        value = str(hdu.header.get(key, "")).strip()
        if value != unit:
            raise InputError(f"{path} has {key} {value!r}, not {unit!r}: {REFETCH}")
    filters = [str(hdu.header.get(f"FILTER{k}", "")).strip() for k in range(hdu.shape[0])]
    if "" in filters:
        raise InputError(f"{path} does not name the filter of plane {filters.index('')}: {REFETCH}")
    return [printable(path, name, "a filter") for name in filters]


def _solid_angle_correction(path: Path, header: fits.Header) -> float:
    """Factor from flux in a pixel to surface brightness at redshift zero, 1/sr."""
    expansion = 1 + header_number(
        path, header, "USE_Z", above=-0.01
    )  # blueshifts of nearby galaxies
    return float(expansion**5 / (header_number(path, header, "PIXSCALE") * ARCSEC_RAD) ** 2)
