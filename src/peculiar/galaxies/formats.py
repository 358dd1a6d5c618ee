"""Recognise the layout of a FITS file, and read it with the reader for that layout."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from astropy.io import fits
from astropy.table import Table

from peculiar.core.errors import InputError
from peculiar.galaxies import nsa, skirt, sunrise
from peculiar.galaxies.fits import open_fits
from peculiar.galaxies.galaxy import Galaxy


@dataclass(frozen=True)
class _Layout:
    """Functions of a reader.

    Attributes
    ----------
    recognises : callable
        Maps open HDUs to whether they have this layout.
    bands_in : callable
        Maps a path to the SDSS bands in the file.
    read : callable
        Maps path, bands and catalogue (or None) to a galaxy; only the Atlas has a catalogue.
    """

    recognises: Callable[[fits.HDUList], bool]
    bands_in: Callable[[Path], tuple[str, ...]]
    read: Callable[[Path, Sequence[str], Table | None], Galaxy]


LAYOUTS = {
    "sunrise": _Layout(
        sunrise.recognises,
        sunrise.bands_in,
        lambda path, bands, _: sunrise.read_broadband(path, bands),
    ),
    "skirt": _Layout(
        skirt.recognises, skirt.bands_in, lambda path, bands, _: skirt.read_skirt(path, bands)
    ),
    "nsa": _Layout(nsa.recognises, nsa.bands_in, nsa.read_nsa),
}


def layout_of(path: Path) -> str:
    """Recognise the layout of a file.

    Returns
    -------
    str
        "sunrise" (Illustris, stand-ins), "skirt" (TNG) or "nsa" (real galaxies).

    Raises
    ------
    InputError
        When the file is missing, not FITS, truncated, or has no supported layout.
    """
    with open_fits(path) as hdus:
        for name, layout in LAYOUTS.items():
            if layout.recognises(hdus):
                return name
    raise InputError(
        f"{path} has none of the supported layouts: give a SUNRISE broadband file (Illustris), "
        "a TNG SKIRT broadband file, or an image of the NASA-Sloan Atlas"
    )


def bands_in(path: Path) -> tuple[str, ...]:
    """SDSS bands in a file of any supported layout, in the order of `BANDS`.

    Raises
    ------
    InputError
        When the layout is not supported, or the file is damaged or has no SDSS band.
    """
    bands = LAYOUTS[layout_of(path)].bands_in(path)
    if not bands:
        raise InputError(f"{path} has none of the SDSS bands: give a file with at least one")
    return bands


def read_galaxy(path: Path, bands: Sequence[str], catalogue: Table | None = None) -> Galaxy:
    """Read a galaxy, simulated or real, from a file of any supported layout.

    Parameters
    ----------
    path : Path
        File to read.
    bands : sequence of str
        SDSS bands, in the order wanted.
    catalogue : Table, optional
        From `peculiar.galaxies.nsa.read_catalogue`, for files of the NASA-Sloan Atlas.

    Returns
    -------
    Galaxy
        Images (camera, band, y, x) in W/m/m^2/sr.

    Raises
    ------
    InputError
        When the layout is not supported, or the file is damaged or lacks a band.
    """
    layout = LAYOUTS[layout_of(path)]
    held = layout.bands_in(path)
    if not set(bands) <= set(held):
        raise InputError(
            f"{path} has the bands {''.join(held)}, but the champion or --bands requires "
            f"{''.join(bands)}: give a file that has them all"
        )
    return layout.read(path, bands, catalogue)
