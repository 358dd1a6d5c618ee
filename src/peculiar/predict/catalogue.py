"""Read catalogues of galaxies to predict, a chunk of rows at a time.

A row that cannot be used stays a row and says why. Only a file that cannot be read, or lacks a
column, is refused.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import astropy.units as u
import numpy as np
from astropy.io import fits

from peculiar.core.errors import InputError
from peculiar.core.frames import FRAMES, UNKNOWN
from peculiar.core.photometry import BANDS, SPEED_OF_LIGHT_KMS
from peculiar.galaxies.fits import ENDINGS, open_fits
from peculiar.predict.cells import NAMES, Cells, Z, number_of, text_of, unit_factor
from peculiar.predict.dust import MOST_EBV, MOST_MAG
from peculiar.predict.readers import OTHERS, READERS, ending, read_cells

DUST = ("ebv", *(f"extinction_{band}" for band in BANDS))
UNUSABLE = (math.nan,) * len(BANDS)
"""Extinctions of a row that gives some, none of which can be used."""
CAMERAS = 2**31  # a number of a camera is below
UNITS = {
    "cz_kms": u.km / u.s,
    "cz_error_kms": u.km / u.s,
    "v_prior_kms": u.km / u.s,
    "v_prior_error_kms": u.km / u.s,
    **dict.fromkeys(DUST, u.mag),
    "distance_mpc": u.Mpc,
    "ra": u.deg,
    "dec": u.deg,
}
SKY = {"ra": (0.0, 360.0), "dec": (-90.0, 90.0)}


@dataclass(frozen=True)
class Row:
    """One galaxy to predict.

    Attributes
    ----------
    number : int
        Row of the catalogue, from 0.
    name : str
        Path or id.
    camera : int
        Which of the galaxy's images; -1 where the cell is empty or not a whole number.
    cz_kms, cz_error_kms, distance_mpc : float
        Redshift times the speed of light and its standard deviation, km/s, and the distance to
        place a simulated galaxy at, Mpc; NaN where there is none, or none that can be used.
    flags : tuple of str
        `bad_row` where the cells of the row do not match the header, `no_cz` where the cell is
        empty, `bad_cz` where it cannot be used, or its error is empty or cannot be used,
        `bad_distance` where the distance cannot.
    reason : str
        One clause for each flag.
    frame : str
        Frame of the redshift, of `peculiar.core.frames.FRAMES`; "unknown" where the row gives
        none, or none of these.
    ra_deg, dec_deg : float
        Position (ICRS), deg; NaN where there is none, or none that can be used.
    v_prior_kms, v_prior_error_kms : float
        Mean and standard deviation of the prior on the velocity, km/s; NaN where there is none, as
        they stand, for `peculiar.predict.velocities` to judge.
    ebv_mag : float
        E(B-V) by the Milky Way's dust, mag; NaN where there is none, or none that can be used.
    extinction_mag : tuple of float
        Or its extinction in the bands u, g, r, i, z, mag, NaN where there is none; all NaN where
        what the row gives cannot be used; empty where it gives none.
    """

    number: int
    name: str
    camera: int = 0
    cz_kms: float = math.nan
    cz_error_kms: float = 0.0
    distance_mpc: float = math.nan
    flags: tuple[str, ...] = ()
    reason: str = ""
    frame: str = UNKNOWN
    ra_deg: float = math.nan
    dec_deg: float = math.nan
    v_prior_kms: float = math.nan
    v_prior_error_kms: float = math.nan
    ebv_mag: float = math.nan
    extinction_mag: tuple[float, ...] = ()


def is_catalogue(path: Path) -> bool:
    """Whether a file is a table, by its ending, or if FITS by its HDUs."""
    if ending(path) not in ENDINGS:
        return ending(path) in (*READERS, *OTHERS)
    if not path.is_file():
        return False
    try:
        with open_fits(path, memmap=True) as hdus:
            # images of galaxies have planes, or several HDUs; TOPCAT puts a text of bytes first
            tables = all(isinstance(hdu, fits.BinTableHDU | fits.TableHDU) for hdu in hdus[1:])
            return len(hdus[0].shape) < 2 and len(hdus) > 1 and tables
    except InputError:
        return False  # the reader of images has the better message for a damaged file


def chunks(
    path: Path, size: int, columns: Mapping[str, str] = MappingProxyType({})
) -> Iterator[list[Row]]:
    """The rows of a catalogue, `size` at a time.

    Parameters
    ----------
    path : Path
        Table in a format of `peculiar.predict.readers`, with the columns `path` or `id` and
        `cz_kms`, and optionally `cz_error_kms`, `cz_frame`, `ra` and `dec`, `v_prior_kms` and
        `v_prior_error_kms`, `ebv` or `extinction_u` to `extinction_z`, `distance_mpc` (to place a
        simulated galaxy at) and `camera`. Columns with a unit are converted; others are in km/s,
        deg, mag and Mpc. Without the column `cz_error_kms` redshifts have no error; an empty cell
        in it is an unknown error.
    size : int
        Rows at once.
    columns : mapping of str to str
        The file's name of columns that it calls otherwise, by ours. `z`, the redshift without a
        unit, may be given in place of `cz_kms`.

    Raises
    ------
    InputError
        When the file is missing or cannot be read, lacks a column, has one twice, other units, or
        no rows.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing: fix the path")
    fields, cells = read_cells(path, columns=columns)
    factors = {
        name: unit_factor(path, name, fields[name].unit if name in fields else None, unit)
        for name, unit in UNITS.items()
    }
    if Z in fields:
        of_z = unit_factor(path, Z, fields[Z].unit, u.dimensionless_unscaled)
        factors["cz_kms"] = SPEED_OF_LIGHT_KMS * of_z
        cells = (row if isinstance(row, str) else {**row, "cz_kms": row[Z]} for row in cells)
    rows = (_row(number, row, factors) for number, row in enumerate(cells))
    first = True
    while chunk := list(islice(rows, size)):
        first = False
        yield chunk
    if first:
        raise InputError(f"{path} has no rows: give a catalogue of galaxies")


def has_paths(path: Path, columns: Mapping[str, str] = MappingProxyType({})) -> bool:
    """Whether a catalogue names its images by path and not by id; refusals as in `chunks`."""
    _, cells = read_cells(path, columns=columns)
    return next(("path" in row for row in cells if not isinstance(row, str)), False)


def _row(number: int, cells: Cells, factors: Mapping[str, float]) -> Row:
    """Check the cells of one row."""
    if isinstance(cells, str):
        return Row(number, "", flags=("bad_row",), reason=cells)
    flags: list[str] = []
    reasons: list[str] = []
    own = {name: factor for name, factor in factors.items() if name not in DUST}
    values = dict.fromkeys(own, math.nan) | {"cz_error_kms": 0.0}
    for name, factor in own.items():
        value = number_of(cells.get(name))
        if value is None:
            if name == "cz_kms":
                flags.append("no_cz")
                reasons.append("it has no cz_kms")
            elif name == "cz_error_kms" and name in cells:  # unknown is not zero
                values[name] = math.nan
                flags.append("bad_cz")
                reasons.append("it has no cz_error_kms (write 0 for none)")
            continue
        if name.startswith("v_prior"):
            values[name] = value * factor
            continue
        least, most = {
            "cz_kms": (-SPEED_OF_LIGHT_KMS, SPEED_OF_LIGHT_KMS),
            "cz_error_kms": (0, SPEED_OF_LIGHT_KMS),
            **SKY,
        }.get(name, (5e-324, math.inf))
        if least <= value * factor <= most and math.isfinite(value):
            values[name] = value * factor
        else:
            values[name] = math.nan
            if name not in SKY:  # without a position the frame is flagged
                flags.append("bad_distance" if name == "distance_mpc" else "bad_cz")
            reasons.append(f"its {name} {_short(cells[name])} cannot be used")
    ra, dec = values.pop("ra"), values.pop("dec")
    frame, why = _frame(cells)
    if why:
        reasons.append(why)
    ebv, extinction, why = _dust(cells, factors)
    if why:
        reasons.append(why)
    camera, why = _camera(cells)
    if why:
        reasons.append(why)
    name = next((found for key in NAMES if (found := text_of(cells.get(key)))), "")
    return Row(
        number,
        name,
        camera,
        **values,
        flags=tuple(dict.fromkeys(flags)),
        reason="; ".join(reasons),
        frame=frame,
        ra_deg=ra,
        dec_deg=dec,
        ebv_mag=ebv,
        extinction_mag=extinction,
    )


def _frame(cells: dict[str, Any]) -> tuple[str, str]:
    """Frame that a row names, in any case; "unknown" without one, and why if it names another."""
    given = text_of(cells.get("cz_frame"))
    if given.lower() in FRAMES:
        return given.lower(), ""
    known = ", ".join(FRAMES)
    return UNKNOWN, f"its cz_frame {_short(given)} is none of {known}" if given else ""


def _dust(
    cells: dict[str, Any], factors: Mapping[str, float]
) -> tuple[float, tuple[float, ...], str]:
    """E(B-V) or extinctions in u, g, r, i, z, mag; these all NaN, and why, where one is no use.

    NaN and not empty, since neither the file nor a map may stand in for what a row gives.
    """
    values: dict[str, float] = {}
    for name in DUST:
        value = number_of(cells.get(name))
        if value is None:
            continue
        if not 0 <= value * factors[name] <= (MOST_EBV if name == "ebv" else MOST_MAG):
            return math.nan, UNUSABLE, f"its {name} {_short(cells[name])} cannot be used"
        values[name] = value * factors[name]
    ebv = values.pop("ebv", math.nan)
    if values and not math.isnan(ebv):
        return math.nan, UNUSABLE, "it has both ebv and extinctions, of which one is enough"
    return ebv, tuple(values.get(name, math.nan) for name in DUST[1:]) if values else (), ""


def _camera(cells: dict[str, Any]) -> tuple[int, str]:
    """Number of a camera, 0 without the column; -1, and why, where the cell has none."""
    if "camera" not in cells:
        return 0, ""
    value = number_of(cells["camera"])
    if value is None:  # unknown is not the first
        return -1, "it has no camera (write 0 for the first)"
    if 0 <= value < CAMERAS and value.is_integer():
        return int(value), ""
    return -1, f"its camera {_short(cells['camera'])} cannot be used"


def _short(cell: Any) -> str:
    return repr(cell.item() if isinstance(cell, np.generic) else cell)[:40]
