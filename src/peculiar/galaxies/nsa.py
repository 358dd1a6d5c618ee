"""Read images of the NASA-Sloan Atlas (Blanton et al. 2011, AJ 142, 31): real galaxies of SDSS.

Three layouts are read: parent images (14 HDUs: u, g, r, i, z, NUV, FUV, each followed by its
inverse variance), atlas images (7 HDUs: the same bands, deblended, without inverse variances), and
cut-outs of one band (1 HDU, with NSAID, Z, ZDIST, FILTER, BUNIT and PIXSCALE in the header).

The following was checked against the Atlas' description (nsatlas.org/data) and code
(github.com/blanton144/dimage): file names, HDUs, nanomaggies, columns and the order F, N, u, g, r,
i, z, 0.396 arcsec pixels in ugriz, a WCS in every HDU of parent images, RA and DEC as measured in
the atlas image, PID and AID as float32. The following is assumed, since no genuine parent image,
atlas image or catalogue could be opened: the keywords of the WCS, BUNIT absent or nanomaggies, and
headers without NSAID or redshifts. Fluxes are in the SDSS system, about 0.04 mag from AB in u and
0.02 in z. They are not corrected for extinction by dust in the Milky Way, which the catalogue's
EXTINCTION states, but for cut-outs that say DUSTCORR = T, a card of our own, in their header.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_area
from numpy.typing import NDArray

from peculiar.core.errors import InputError
from peculiar.core.photometry import ARCSEC_RAD, BANDS, SPEED_OF_LIGHT_MS, flux_density
from peculiar.galaxies.fits import (
    REFETCH,
    column,
    column_names,
    finite,
    header_number,
    open_fits,
    pixels,
)
from peculiar.galaxies.galaxy import Galaxy

HDUS_A_BAND = {14: 2, 7: 1}
"""HDUs per band by the number of HDUs: only parent images (14) have inverse variances."""
FLUX_ORDER = "FNugriz"
BY_BAND = ("PETROFLUX", "EXTINCTION")
"""Columns of seven values a row, in this order; older catalogues may lack them."""
C_KMS = SPEED_OF_LIGHT_MS * 1e-3
ZEROPOINT_AB = 22.5
"""AB magnitude of one nanomaggy."""
PIXEL_ARCSEC = 0.396
"""Pixel scale of the mosaics from which parent and atlas images are cut, in ugriz, arcsec."""
CATALOGUE_COLUMNS = {
    "NSAID": int,
    "IAUNAME": str,
    "PID": int,
    "AID": int,
    "RA": float,
    "DEC": float,
    "Z": float,
    "ZDIST": float,
}
NAME = re.compile(r"(.+)-(?:parent-(\d+)|(\d+)-atlas-(\d+))\.fits(?:\.gz)?")


def recognises(hdus: fits.HDUList) -> bool:
    """Whether a file is an image of the NASA-Sloan Atlas, by its HDUs."""
    kinds = (fits.PrimaryHDU, fits.ImageHDU)
    flat = all(isinstance(hdu, kinds) and len(hdu.shape) == 2 for hdu in hdus)
    return flat and (len(hdus) in HDUS_A_BAND or (len(hdus) == 1 and "NSAID" in hdus[0].header))


def bands_in(path: Path) -> tuple[str, ...]:
    """SDSS bands of a file, in the order of `BANDS`; raises `InputError` as `read_nsa` does."""
    with open_fits(path) as hdus:
        return tuple(_numbers(path, hdus))


def read_catalogue(path: Path) -> Table:
    """Read the needed columns of the Atlas' catalogue.

    Parameters
    ----------
    path : Path
        `nsa_v0_1_2.fits`, 0.5 GB; only these columns are loaded.

    Returns
    -------
    Table
        NSAID, IAUNAME, PID, AID, RA and DEC (deg), Z, ZDIST and, if the file has them, PETROFLUX
        in nanomaggies and EXTINCTION in mag, (row, 7), in the order of `FLUX_ORDER`; `meta` holds
        the path.

    Raises
    ------
    InputError
        When the file is missing, not FITS, truncated, or lacks a column.
    """
    with open_fits(path, memmap=True) as hdus:
        if len(hdus) < 2 or not isinstance(hdus[1], fits.BinTableHDU):
            raise InputError(f"{path} has no table in HDU 1: give nsa_v0_1_2.fits")
        names = column_names(path, hdus[1])
        missing = [name for name in CATALOGUE_COLUMNS if name not in names]
        if missing:
            raise InputError(f"{path} has no column {missing[0]}: give nsa_v0_1_2.fits")
        table = Table(meta={"path": path})
        for name, kind in CATALOGUE_COLUMNS.items():
            table[name] = column(path, hdus[1], name, kind)
        table["IAUNAME"] = np.strings.strip(table["IAUNAME"])
        table["RA"].unit = table["DEC"].unit = u.deg
        for name in (name for name in BY_BAND if name in names):
            values = column(path, hdus[1], name, float)
            if values.shape != (len(table), len(FLUX_ORDER)):
                raise InputError(f"{path} does not have 7 values per row in {name}: {REFETCH}")
            table[name] = values
    return table


def read_nsa(path: Path, bands: Sequence[str], catalogue: Table | None = None) -> Galaxy:
    """Read the images of one real galaxy.

    Z is the heliocentric redshift. ZDIST is a distance in units of c/H0. Within 6400 km/s it comes
    from the peculiar velocities of Willick et al. (1997, ApJ 486, 629), tapered to zero between
    5000 and 6400 km/s; beyond, it is the redshift in the frame of the Local Group (Yahil et al.
    1977, ApJ 217, 903). Pixels without data, whose inverse variance is not positive, are set to 0,
    the sky.

    Parameters
    ----------
    path : Path
        `{IAUNAME}-parent-{PID}.fits.gz`, `{IAUNAME}-{PID}-atlas-{AID}.fits.gz`, or a cut-out.
    bands : sequence of str
        SDSS bands, in the order wanted.
    catalogue : Table or None
        From `read_catalogue`; if None, NSAID, Z and ZDIST are read from the primary header.

    Returns
    -------
    Galaxy
        Images (camera=1, band, y, x) in W/m/m^2/sr, not necessarily square, with noise of both
        signs; kpc per pixel is NaN. Of the catalogue are AB magnitudes (camera=1, band), from
        PETROFLUX, and the Milky Way's extinction (band,), from EXTINCTION, which is still in the
        images. The offset is (0, 0) without a WCS or a position.

    Raises
    ------
    InputError
        When the file is missing, not FITS, truncated, or not exactly once in the catalogue; when a
        band, header card or datum is missing, invalid or inconsistent.
    """
    with open_fits(path) as hdus:
        numbers = _numbers(path, hdus)
        for band in bands:
            if band not in numbers:
                raise InputError(f"{path} has no band {band}: leave {band} out of fetch.bands")
        known = _known(path, hdus[0].header, catalogue)
        dust_removed = hdus[0].header.get("DUSTCORR") is True
        flux = [_flux(path, hdus, numbers[band], band) for band in bands]
        if len({image.shape for image in flux}) > 1:
            raise InputError(f"{path} has bands of different sizes: {REFETCH}")
        hdu = hdus[numbers[bands[0]]]
        wcs = _celestial(path, hdu.header)
        scale = _pixel_scale(path, hdu.header, wcs, known=len(hdus) in HDUS_A_BAND)
        position = _position(path, known)
        offset = _offset(path, hdu, wcs, position)
    A = _by_band(known, "EXTINCTION", bands)
    nanomaggy = [flux_density(ZEROPOINT_AB, band) / (scale * ARCSEC_RAD) ** 2 for band in bands]
    return Galaxy(
        id=int(header_number(path, known, "NSAID", above=-1)),
        images=(np.stack(flux) * np.reshape(nanomaggy, (-1, 1, 1)))[None].astype(np.float32),
        kpc_per_pixel=np.array([np.nan]),
        source=f"nsa:{path.name}",
        mag_ab=_mag_ab(known, bands)[None],
        pixel_scale_arcsec=scale,
        cz_kms=C_KMS * header_number(path, known, "Z", above=-0.01),  # blueshifts
        cz_flow_kms=C_KMS * header_number(path, known, "ZDIST"),
        cz_frame="heliocentric",
        ra_deg=position[0],
        dec_deg=position[1],
        centre_offset=offset,
        extinction_mag=np.where(A >= 0, A, np.nan),
        dust_removed=dust_removed,
    )


def _numbers(path: Path, hdus: fits.HDUList) -> dict[str, int]:
    """Number of the HDU that holds the image of each band."""
    if not recognises(hdus):
        raise InputError(
            f"{path} is not an image of the NASA-Sloan Atlas, which has 14 HDUs (parent), 7 "
            "(atlas) or 1 with NSAID (cut-out): remove it from fetch.nsa.folder, or correct "
            "fetch.source"
        )
    header = hdus[0].header
    # files of the Atlas need no BUNIT, since its documentation gives the unit; cut-outs need one
    unit = str(header.get("BUNIT", "" if len(hdus) == 1 else "nanomaggies")).strip()
    if unit not in ("nanomaggy", "nanomaggies"):
        raise InputError(f"{path} has BUNIT {unit!r}, not 'nanomaggy': {REFETCH}")
    if len(hdus) in HDUS_A_BAND:
        return {band: HDUS_A_BAND[len(hdus)] * k for k, band in enumerate(BANDS)}
    band = str(header.get("FILTER", "")).strip()
    if band not in BANDS:
        raise InputError(f"{path} has FILTER {band!r}, not one of {', '.join(BANDS)}: {REFETCH}")
    return {band: 0}


def _known(path: Path, header: Mapping[str, Any], catalogue: Table | None) -> Mapping[str, Any]:
    """NSAID, Z, ZDIST and more of a galaxy, from the catalogue, or from the header without one."""
    if catalogue is None:
        missing = [key for key in ("NSAID", "Z", "ZDIST") if key not in header]
        if missing:
            raise InputError(
                f"{path} has no {missing[0]} in its header: give the Atlas' catalogue, "
                "nsa_v0_1_2.fits, as fetch.nsa.catalogue or --atlas"
            )
        return header
    name = NAME.fullmatch(path.name)
    if name is None:
        given = "NSAID" in header
        number = header_number(path, header, "NSAID", above=-1) if given else np.nan
        matches = catalogue["NSAID"] == number
    else:
        pid, aid = int(name[2] or name[3]), name[4]
        matches = (catalogue["IAUNAME"] == name[1]) & (catalogue["PID"] == pid)
        matches &= aid is None or catalogue["AID"] == int(aid)
    rows = np.flatnonzero(matches)
    if len(rows) != 1:
        raise InputError(
            f"{path} is {len(rows)} times in {catalogue.meta['path']}, not once: remove it from "
            "fetch.nsa.folder, or rename it as in the Atlas"
        )
    return {key: catalogue[key][rows[0]].tolist() for key in catalogue.colnames}


def _flux(path: Path, hdus: fits.HDUList, index: int, band: str) -> NDArray[np.float32]:
    """Image (y, x) of one band in nanomaggies per pixel, 0 where there are no data."""
    image = pixels(path, hdus[index])
    if HDUS_A_BAND.get(len(hdus)) == 2:
        weight = pixels(path, hdus[index + 1])
        finite(path, weight, f"the inverse variance of band {band}")
        if weight.shape != image.shape:
            raise InputError(
                f"{path} has an inverse variance of another size than the image in {band}: "
                f"{REFETCH}"
            )
        if not (weight > 0).any():
            raise InputError(f"{path} has no data in band {band}: remove it from fetch.nsa.folder")
        image = np.where(weight > 0, image, np.float32(0))
    return finite(path, image, f"band {band}")


def _pixel_scale(path: Path, header: Mapping[str, Any], wcs: WCS | None, known: bool) -> float:
    """Pixel scale, arcsec, from PIXSCALE or the WCS, or else that of the `known` layouts."""
    by_wcs = None if wcs is None else 3600 * float(np.sqrt(proj_plane_pixel_area(wcs)))
    if "PIXSCALE" in header:
        scale = header_number(path, header, "PIXSCALE")
        if by_wcs is not None and abs(by_wcs / scale - 1) > 0.01:
            raise InputError(f"{path} has PIXSCALE {scale:g}, but {by_wcs:g} by its WCS: {REFETCH}")
        return scale
    if by_wcs is None and not known:
        raise InputError(f"{path} has neither PIXSCALE nor a WCS in its header: {REFETCH}")
    return PIXEL_ARCSEC if by_wcs is None else by_wcs


def _position(path: Path, known: Mapping[str, Any]) -> tuple[float, float]:
    """Right ascension and declination, deg; NaN where they are not known."""
    if "RA" not in known or "DEC" not in known:
        return (np.nan, np.nan)
    ra, dec = (header_number(path, known, key, above=-91) for key in ("RA", "DEC"))
    if not (0 <= ra <= 360 and dec <= 90):
        raise InputError(f"{path} has RA {ra:g} and DEC {dec:g}, which are on no sky: {REFETCH}")
    return ra, dec


def _offset(
    path: Path, hdu: fits.ImageHDU, wcs: WCS | None, position: tuple[float, float]
) -> tuple[float, float]:
    """Pixels in x and y from the middle of the frame to the galaxy."""
    ra, dec = position
    if wcs is None or np.isnan(ra):
        return (0.0, 0.0)
    x, y = (float(value) for value in wcs.wcs_world2pix(ra, dec, 0))
    ny, nx = hdu.shape
    offset = (x - (nx - 1) / 2, y - (ny - 1) / 2)
    if not (abs(offset[0]) <= nx / 2 and abs(offset[1]) <= ny / 2):
        raise InputError(f"{path} does not show its galaxy's RA {ra:.5f}, DEC {dec:.5f}: {REFETCH}")
    return offset


def _celestial(path: Path, header: fits.Header) -> WCS | None:
    """Celestial WCS of an image; None if its header has none."""
    try:
        wcs = WCS(header)
        wcs.wcs.set()
    except (ValueError, TypeError, LookupError) as error:  # wcslib, on mangled cards
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(f"{path} has no usable WCS ({reason}): {REFETCH}") from None
    return wcs.celestial if wcs.has_celestial else None


def _mag_ab(known: Mapping[str, Any], bands: Sequence[str]) -> NDArray[np.float64]:
    """AB magnitudes (band,) of the Petrosian fluxes; NaN where missing or not positive."""
    flux = _by_band(known, "PETROFLUX", bands)
    return ZEROPOINT_AB - 2.5 * np.log10(np.where(flux > 0, flux, np.nan))


def _by_band(known: Mapping[str, Any], name: str, bands: Sequence[str]) -> NDArray[np.float64]:
    """Values (band,) of one of `BY_BAND`; NaN without the column, also in a header."""
    values = known.get(name)
    if not isinstance(values, list):
        return np.full(len(bands), np.nan)
    return np.array([values[FLUX_ORDER.index(band)] for band in bands], dtype=float)
