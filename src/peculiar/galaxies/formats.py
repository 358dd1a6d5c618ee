"""Which of the supported layouts a file of others has, and the reader of it."""

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
    """What each format module offers.

    Attributes
    ----------
    recognises : callable
        Open HDUs to whether they are of this layout.
    bands_in : callable
        Path to the SDSS bands in the file.
    read : callable
        Path, bands and catalogue (or None) to a galaxy; only the Atlas has a catalogue.
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
    """Layout of a file: `sunrise` (Illustris, stand-ins), `skirt` (TNG) or `nsa` (real galaxies).

    Raises
    ------
    InputError
        When the file is missing, not FITS, truncated, or of no supported layout.
    """
    with open_fits(path) as hdus:
        for name, layout in LAYOUTS.items():
            if layout.recognises(hdus):
                return name
    raise InputError(
        f"{path} is of none of the supported layouts: give a SUNRISE broadband file (Illustris), "
        "a TNG SKIRT broadband file, or an image of the NASA-Sloan Atlas"
    )


def bands_in(path: Path) -> tuple[str, ...]:
    """SDSS bands in a file of any supported layout, in the order of `BANDS`.

    Raises
    ------
    InputError
        When the layout is not supported, or the file is damaged or holds none of these bands.
    """
    bands = LAYOUTS[layout_of(path)].bands_in(path)
    if not bands:
        raise InputError(f"{path} holds none of the SDSS bands: give a file that has some")
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
        Of `peculiar.galaxies.nsa.read_catalogue`, for the NASA-Sloan Atlas; others need none.

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
            f"{path} holds the bands {''.join(held)}, but {''.join(bands)} are asked for, by the "
            "champion or --bands: give a file that has them all"
        )
    return layout.read(path, bands, catalogue)
