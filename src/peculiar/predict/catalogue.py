"""Read catalogues of galaxies to predict, a chunk of rows at a time.

A row that cannot be used stays a row and says why. Only a file that cannot be read, or lacks a
column, is refused.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np

from peculiar.core.errors import InputError
from peculiar.core.photometry import SPEED_OF_LIGHT_KMS
from peculiar.galaxies.fits import open_fits
from peculiar.predict.cells import NAMES, TABLES, Cells, read_cells
from peculiar.velocity.frames import FRAMES, UNKNOWN

ENDINGS = (".csv", ".ecsv", ".parquet", ".fits", ".fits.gz")
CAMERAS = 2**31  # a number of a camera is below
UNITS = {
    "cz_kms": u.km / u.s,
    "cz_error_kms": u.km / u.s,
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
        Which of the galaxy's images; -1 where the cell is not a whole number.
    cz_kms, cz_error_kms, distance_mpc : float
        Redshift times the speed of light and its standard deviation, km/s, and the distance to
        place a simulated galaxy at, Mpc; NaN where there is none, or none that can be used.
    flags : tuple of str
        `no_cz` where the cell is empty, `bad_cz` where it cannot be used, or its error is empty or
        cannot be used, `bad_distance` where the distance cannot.
    reason : str
        One clause for each flag.
    frame : str
        Frame of the redshift, of `peculiar.velocity.frames.FRAMES`; "unknown" where the row gives
        none, or none of these.
    ra_deg, dec_deg : float
        Position (ICRS), deg; NaN where there is none, or none that can be used.
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


def is_catalogue(path: Path) -> bool:
    """Whether a file is a catalogue, by its ending, or if FITS by its first two HDUs."""
    if not path.name.endswith((".fits", ".fits.gz")):
        return path.name.endswith(ENDINGS)
    if not path.is_file():
        return False
    try:
        with open_fits(path, memmap=True) as hdus:
            # images of galaxies have planes, or several HDUs; TOPCAT puts a text of bytes first
            return len(hdus[0].shape) < 2 and len(hdus) == 2 and isinstance(hdus[1], TABLES)
    except InputError:
        return False  # the reader of images has the better message for a damaged file


def chunks(path: Path, size: int) -> Iterator[list[Row]]:
    """The rows of a catalogue, `size` at a time.

    Parameters
    ----------
    path : Path
        CSV, ECSV, Parquet or FITS table, by its ending, with the columns `path` or `id` and
        `cz_kms`, and optionally `cz_error_kms`, `cz_frame`, `ra` and `dec`, `distance_mpc` (to
        place a simulated galaxy at) and `camera`. Columns with a unit are converted; others are in
        km/s, deg and Mpc. Without the column `cz_error_kms` redshifts have no error; an empty cell
        in it is an unknown error.
    size : int
        Rows at once.

    Raises
    ------
    InputError
        When the file is missing or cannot be read, lacks a column, has other units, or no rows.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing: fix the path")
    units, cells = read_cells(path)
    factors = {name: _factor(path, name, units.get(name)) for name in UNITS}
    rows = (_row(number, row, factors) for number, row in enumerate(cells))
    first = True
    while chunk := list(islice(rows, size)):
        first = False
        yield chunk
    if first:
        raise InputError(f"{path} has no rows: give a catalogue of galaxies")


def has_paths(path: Path) -> bool:
    """Whether a catalogue names its images by path and not by id; refusals as in `chunks`."""
    _, cells = read_cells(path)
    return any("path" in row for row in islice(cells, 1))


def _factor(path: Path, name: str, unit: str | None) -> float:
    if not unit:
        return 1.0
    try:
        return float(u.Unit(unit).to(UNITS[name]))
    except (ValueError, TypeError, u.UnitsError):
        raise InputError(
            f"{path} has {name} in {unit!r}, which is not {UNITS[name]}: correct the unit"
        ) from None


def _row(number: int, cells: Cells, factors: Mapping[str, float]) -> Row:
    """Check the cells of one row."""
    flags: list[str] = []
    reasons: list[str] = []
    values = dict.fromkeys(UNITS, math.nan) | {"cz_error_kms": 0.0}
    for name, factor in factors.items():
        value = _number(cells.get(name))
        if value is None:
            if name == "cz_kms":
                flags.append("no_cz")
                reasons.append("it has no cz_kms")
            elif name == "cz_error_kms" and name in cells:  # unknown is not zero
                values[name] = math.nan
                flags.append("bad_cz")
                reasons.append("it has no cz_error_kms (write 0 for none)")
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
    frame = _frame(cells.get("cz_frame"))
    if frame == UNKNOWN and (given := _text(cells.get("cz_frame"))):
        reasons.append(f"its cz_frame {_short(given)} is none of {', '.join(FRAMES)}")
    camera = _camera(cells.get("camera"))
    if camera < 0:
        reasons.append(f"its camera {_short(cells['camera'])} cannot be used")
    name = next((text for key in NAMES if (text := _text(cells.get(key)))), "")
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
    )


def _frame(cell: Any) -> str:
    """Frame that a cell names, in any case; "unknown" for none or another."""
    text = _text(cell).lower()
    return text if text in FRAMES else UNKNOWN


def _camera(cell: Any) -> int:
    """Number of a camera, by default 0; -1 where the cell has none."""
    value = _number(cell)
    if value is None:
        return 0
    return int(value) if 0 <= value < CAMERAS and value.is_integer() else -1


def _short(cell: Any) -> str:
    return repr(cell.item() if isinstance(cell, np.generic) else cell)[:40]


def _text(cell: Any) -> str:
    """A path or id; whole numbers without the decimals that a column with empty cells gives."""
    if cell is None or cell != cell:
        return ""
    text = str(cell).strip()
    return text.removesuffix(".0") if re.fullmatch(r"\d+\.0", text) else text


def _number(cell: Any) -> float | None:
    """Number of a cell; None where it is empty, infinity where it is no number."""
    if cell is None or (isinstance(cell, str) and cell.strip().lower() in ("", "nan", "null")):
        return None
    try:
        value = float(cell)
    except (TypeError, ValueError, OverflowError):
        return math.inf
    return None if math.isnan(value) else value
