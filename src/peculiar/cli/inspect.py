"""Describe an image file of any supported format, as plain data and as text."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from peculiar.core.photometry import (
    ARCSEC_RAD,
    KPC_M,
    MPC_M,
    SKIRT_FILTERS,
    SPEED_OF_LIGHT_MS,
    SUNRISE_FILTERS,
    TEN_PARSEC_KPC,
    ab_mag,
)
from peculiar.galaxies import skirt, sunrise
from peculiar.galaxies.fits import header_number, open_fits
from peculiar.galaxies.formats import layout_of
from peculiar.galaxies.galaxy import Galaxy

Floats = NDArray[np.float64]
REMARKS = {
    "sunrise": "arcsec and apparent magnitudes as seen from the camera (cameradist)",
    "skirt": "apparent magnitudes as observed at the redshift, with zero points that we assume",
    "nsa": "kpc and absolute magnitudes at c ZDIST / H0 with H0 = {H0:g} km/s/Mpc",
}


@dataclass(frozen=True)
class Contents:
    """Contents of a file. Values that it does not state are NaN.

    Attributes
    ----------
    path : Path
        The file.
    layout : str
        `sunrise`, `skirt` or `nsa`.
    standin : bool
        Whether it is a stand-in made by peculiar.
    id : int
        Subhalo number or NSAID.
    bands, other_filters : tuple of str
        SDSS bands in the file, and the names of its other filters.
    shape : tuple of int
        (camera, band, y, x) of the SDSS bands.
    unit : str
        Of the pixels, as the file names it.
    redshift, flow_redshift : float
        As stated, and corrected for peculiar velocities by a flow model; dimensionless.
    log10_stellar_mass, half_mass_radius_kpc : float
        log10(M*/Msun) and kpc.
    pixel_kpc, pixel_arcsec : ndarray, (camera,)
        Pixel scale, kpc and arcsec.
    apparent_mag, absolute_mag : ndarray, (camera, band)
        AB magnitudes computed from the pixels: as observed, and at 10 pc without expansion or K
        correction, mag.
    stated_mag : ndarray, (camera, band)
        AB magnitudes that the file states, in its own convention, mag.
    catalogue_mag : ndarray, (band,)
        Absolute AB magnitudes in the simulation's catalogue, mag.
    remark : str
        Assumptions behind the scales and magnitudes that the file does not state.
    """

    path: Path
    layout: str
    standin: bool
    id: int
    bands: tuple[str, ...]
    other_filters: tuple[str, ...]
    shape: tuple[int, ...]
    unit: str
    redshift: float
    flow_redshift: float
    log10_stellar_mass: float
    half_mass_radius_kpc: float
    pixel_kpc: Floats
    pixel_arcsec: Floats
    apparent_mag: Floats
    absolute_mag: Floats
    stated_mag: Floats
    catalogue_mag: Floats
    remark: str

    @property
    def distance_mpc(self) -> Floats:
        """Distance (camera,) at which `pixel_kpc` spans `pixel_arcsec`, Mpc."""
        return self.pixel_kpc / (self.pixel_arcsec * ARCSEC_RAD) * (KPC_M / MPC_M)

    @property
    def field_kpc(self) -> Floats:
        """Width (camera,) of the images, kpc."""
        return self.pixel_kpc * self.shape[-1]


@dataclass(frozen=True)
class _Headers:
    """Facts that each format states in its own way; named as in `Contents`."""

    unit: str
    redshift: float
    pixel_kpc: Floats
    pixel_arcsec: Floats
    other_filters: tuple[str, ...]


def is_standin(path: Path) -> bool:
    """Whether a FITS file says that it was made by `peculiar standin`."""
    with open_fits(path) as hdus:
        return "stand-in" in str(hdus[0].header.get("ORIGIN", ""))


def describe(path: Path, galaxy: Galaxy, bands: Sequence[str], H0_kms_mpc: float) -> Contents:
    """Describe a file.

    Parameters
    ----------
    path : Path
        A file of any supported layout.
    galaxy : Galaxy
        From `peculiar.galaxies.formats.read_galaxy`.
    bands : sequence of str
        Bands of the galaxy's images, in order.
    H0_kms_mpc : float
        Hubble constant, for the distances of real galaxies, km/s/Mpc.

    Returns
    -------
    Contents
        With magnitudes computed from the pixels.

    Raises
    ------
    InputError
        When a header has an impossible value.
    """
    layout = layout_of(path)
    with open_fits(path) as hdus:
        if layout == "sunrise":
            headers = _sunrise_headers(path, hdus, galaxy)
        elif layout == "skirt":
            headers = _skirt_headers(path, hdus, galaxy)
        else:
            headers = _nsa_headers(hdus, galaxy, H0_kms_mpc)
    # the reader of SKIRT files takes the expansion out of the surface brightness
    expansion = 1 + headers.redshift if layout == "skirt" else 1.0
    seen = (headers.pixel_arcsec * ARCSEC_RAD) ** 2 / expansion**5
    return Contents(
        path=path,
        layout=layout,
        standin=is_standin(path),
        id=galaxy.id,
        bands=tuple(bands),
        other_filters=headers.other_filters,
        shape=galaxy.images.shape,
        unit=headers.unit,
        redshift=headers.redshift,
        flow_redshift=galaxy.cz_flow_kms * 1e3 / SPEED_OF_LIGHT_MS,
        log10_stellar_mass=galaxy.log10_stellar_mass,
        half_mass_radius_kpc=galaxy.half_mass_radius_kpc,
        pixel_kpc=headers.pixel_kpc,
        pixel_arcsec=headers.pixel_arcsec,
        apparent_mag=_magnitudes(galaxy, bands, seen),
        absolute_mag=_magnitudes(galaxy, bands, (headers.pixel_kpc / TEN_PARSEC_KPC) ** 2),
        stated_mag=np.broadcast_to(galaxy.mag_ab, galaxy.images.shape[:2]),
        catalogue_mag=np.broadcast_to(galaxy.absolute_mag, len(bands)),
        remark=REMARKS[layout].format(H0=H0_kms_mpc),
    )


def _magnitudes(galaxy: Galaxy, bands: Sequence[str], pixel_sr: Floats) -> Floats:
    """AB magnitudes (camera, band) for pixels of `pixel_sr` (camera,)."""
    flux = galaxy.images.sum(axis=(-2, -1), dtype=float) * pixel_sr[:, None]
    return np.stack([ab_mag(flux[:, k], band) for k, band in enumerate(bands)], axis=1)


def _sunrise_headers(path: Path, hdus: fits.HDUList, galaxy: Galaxy) -> _Headers:
    distance_kpc = np.full(len(galaxy.images), np.nan)
    for camera in range(len(distance_kpc)):
        name = f"CAMERA{camera}-PARAMETERS"
        if name in hdus and "cameradist" in hdus[name].header:
            distance_kpc[camera] = header_number(path, hdus[name].header, "cameradist")
    broadband = hdus["BROADBAND"].header if "BROADBAND" in hdus else {}
    filters = sunrise.filter_names(path, hdus)
    return _Headers(
        unit=str(hdus["CAMERA0-BROADBAND-NONSCATTER"].header["IMUNIT"]).strip(),
        redshift=header_number(path, broadband, "REDSHIFT", -1)
        if "REDSHIFT" in broadband
        else np.nan,
        pixel_kpc=galaxy.kpc_per_pixel,
        pixel_arcsec=galaxy.kpc_per_pixel / distance_kpc / ARCSEC_RAD,
        other_filters=tuple(name for name in filters if name not in SUNRISE_FILTERS.values()),
    )


def _skirt_headers(path: Path, hdus: fits.HDUList, galaxy: Galaxy) -> _Headers:
    header = hdus[0].header
    filters = skirt.filter_names(path, hdus[0])
    return _Headers(
        unit=str(header["BUNIT"]).strip(),
        redshift=header_number(path, header, "USE_Z", above=-1),
        pixel_kpc=galaxy.kpc_per_pixel,
        pixel_arcsec=np.array([header_number(path, header, "PIXSCALE")]),
        other_filters=tuple(name for name in filters if name not in SKIRT_FILTERS.values()),
    )


def _nsa_headers(hdus: fits.HDUList, galaxy: Galaxy, H0_kms_mpc: float) -> _Headers:
    distance_kpc = galaxy.cz_flow_kms / H0_kms_mpc * (MPC_M / KPC_M)
    pixel_arcsec = np.array([galaxy.pixel_scale_arcsec])
    return _Headers(
        unit=str(hdus[0].header.get("BUNIT", "nanomaggy")).strip(),
        redshift=galaxy.cz_kms * 1e3 / SPEED_OF_LIGHT_MS,
        pixel_kpc=pixel_arcsec * ARCSEC_RAD * (distance_kpc if distance_kpc > 0 else np.nan),
        pixel_arcsec=pixel_arcsec,
        other_filters=("NUV", "FUV") if len(hdus) > 1 else (),
    )


def text(contents: Contents) -> str:
    """Format contents as aligned lines with units."""
    others = contents.other_filters
    facts = {
        "layout": contents.layout + (", a stand-in made by peculiar" if contents.standin else ""),
        "galaxy": str(contents.id),
        "images": " x ".join(map(str, contents.shape)) + " (camera, band, y, x)",
        "unit": contents.unit,
        "other filters": f"{len(others)}: {' '.join(others)}" if others else "none",
        "redshift": _value(contents.redshift, ".6f"),
        "flow redshift": _value(contents.flow_redshift, ".6f"),
        "stellar mass": _value(contents.log10_stellar_mass, ".3f", " log10(Msun)"),
        "half-mass radius": _value(contents.half_mass_radius_kpc, ".2f", " kpc"),
        "remark": contents.remark,
    }
    lines = [str(contents.path), *(f"  {name:<18}{value}" for name, value in facts.items())]
    return "\n".join(lines + _scale_lines(contents) + _magnitude_lines(contents))


def _value(value: float, form: str, unit: str = "") -> str:
    return f"{value:{form}}{unit}" if np.isfinite(value) else "not stated"


def _cell(value: float, width: int, digits: int) -> str:
    return f"{value:{width}.{digits}f}" if np.isfinite(value) else f"{'-':>{width}}"


def _scale_lines(contents: Contents) -> list[str]:
    """Pixel scale of each camera, the distance that both imply, and its field of view."""
    heads = f"{'kpc/pixel':>10}{'arcsec/pixel':>14}{'distance [Mpc]':>16}{'field [kpc]':>13}"
    lines = [f"  {'camera':<18}{heads}{'[half-mass radii]':>19}"]
    columns = (
        contents.pixel_kpc,
        contents.pixel_arcsec,
        contents.distance_mpc,
        contents.field_kpc,
        contents.field_kpc / contents.half_mass_radius_kpc,
    )
    for camera, values in enumerate(zip(*columns, strict=True)):
        cells = map(_cell, values, (10, 14, 16, 13, 19), (4, 4, 3, 2, 2))
        lines.append(f"  {camera:<18}{''.join(cells)}")
    return lines


def _magnitude_lines(contents: Contents) -> list[str]:
    """Magnitudes of each camera: first from the pixels, then as the file states them."""
    rows = {}
    for camera in range(contents.shape[0]):
        rows[f"{camera} apparent"] = contents.apparent_mag[camera]
        rows[f"{camera} absolute"] = contents.absolute_mag[camera]
        rows[f"{camera} stated"] = contents.stated_mag[camera]
    rows["stated absolute"] = contents.catalogue_mag
    lines = [f"  {'camera, AB mag':<18}" + "".join(f"{band:>9}" for band in contents.bands)]
    for name, magnitudes in rows.items():
        if np.isfinite(magnitudes).any():
            lines.append(f"  {name:<18}" + "".join(_cell(value, 9, 3) for value in magnitudes))
    return lines
