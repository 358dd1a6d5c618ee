"""Read catalogues of galaxies to predict, a chunk of rows at a time.

A row that cannot be used stays a row and says why. Only a file that cannot be read, or lacks a
column, is refused.
"""

import csv
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from astropy.io import fits
from astropy.table.meta import get_header_from_yaml

from peculiar.core.errors import InputError
from peculiar.core.photometry import SPEED_OF_LIGHT_MS
from peculiar.galaxies.fits import MANGLED, column_names, open_whole

ENDINGS = (".csv", ".ecsv", ".parquet", ".fits", ".fits.gz")
NAMES = ("path", "id")
UNITS = {"cz_kms": u.km / u.s, "cz_error_kms": u.km / u.s, "distance_mpc": u.Mpc}
COLUMNS = (*NAMES, *UNITS, "camera")
LIGHT_KMS = SPEED_OF_LIGHT_MS * 1e-3
Cells = dict[str, Any]
"""What one row has in each of the `COLUMNS` of its file, as the file has it."""
Read = tuple[Mapping[str, str], Iterator[Cells]]
"""Units by column, as text, and the rows."""


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
        `no_cz` where the cell is empty, `bad_cz` where it or its error cannot be used,
        `bad_distance` where the distance cannot.
    reason : str
        One clause for each flag.
    """

    number: int
    name: str
    camera: int = 0
    cz_kms: float = math.nan
    cz_error_kms: float = 0.0
    distance_mpc: float = math.nan
    flags: tuple[str, ...] = ()
    reason: str = ""


def is_catalogue(path: Path) -> bool:
    """Whether a file is a catalogue, by its ending, or if FITS by its first two HDUs."""
    if not path.name.endswith((".fits", ".fits.gz")):
        return path.name.endswith(ENDINGS)
    if not path.is_file():
        return False
    try:
        with open_whole(path, memmap=True) as hdus:
            # images of galaxies have planes, or tables of filters and cameras behind others
            return not hdus[0].shape and len(hdus) == 2 and isinstance(hdus[1], fits.BinTableHDU)
    except InputError:
        return False  # the reader of images has the better message for a damaged file


def chunks(path: Path, size: int) -> Iterator[list[Row]]:
    """The rows of a catalogue, `size` at a time.

    Parameters
    ----------
    path : Path
        CSV, ECSV, Parquet or FITS table, by its ending, with the columns `path` or `id` and
        `cz_kms`, and optionally `cz_error_kms`, `distance_mpc` (to place a simulated galaxy at)
        and `camera`. Columns with a unit are converted; others are in km/s and Mpc.
    size : int
        Rows at once.

    Raises
    ------
    InputError
        When the file is missing or cannot be read, lacks a column, has other units, or no rows.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing: fix the path")
    units, cells = READERS[path.suffix if path.suffix != ".gz" else ".fits"](path)
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
    _, cells = READERS[path.suffix if path.suffix != ".gz" else ".fits"](path)
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
    values = {"cz_kms": math.nan, "cz_error_kms": 0.0, "distance_mpc": math.nan}
    for name, factor in factors.items():
        value = _number(cells.get(name))
        if value is None:
            if name == "cz_kms":
                flags.append("no_cz")
                reasons.append("it has no cz_kms")
            continue
        least, most = {"cz_kms": (-LIGHT_KMS, LIGHT_KMS), "cz_error_kms": (0, LIGHT_KMS)}.get(
            name, (5e-324, math.inf)
        )
        if least <= value * factor <= most and math.isfinite(value):
            values[name] = value * factor
        else:
            values[name] = math.nan
            flags.append("bad_distance" if name == "distance_mpc" else "bad_cz")
            reasons.append(f"its {name} {_short(cells[name])} is no such number")
    camera = _number(cells.get("camera"))
    number_of_camera = 0 if camera is None else int(camera) if camera.is_integer() else -1
    name = next((text for key in NAMES if (text := _text(cells.get(key)))), "")
    return Row(
        number,
        name,
        number_of_camera,
        **values,
        flags=tuple(dict.fromkeys(flags)),
        reason="; ".join(reasons),
    )


def _short(cell: Any) -> str:
    return repr(cell.item() if isinstance(cell, np.generic) else cell)[:40]


def _text(cell: Any) -> str:
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)  # ids that had empty cells among them
    return "" if cell is None else str(cell).strip()


def _number(cell: Any) -> float | None:
    """Number of a cell; None where it is empty, infinity where it is no number."""
    if cell is None or (isinstance(cell, str) and cell.strip().lower() in ("", "nan", "null")):
        return None
    try:
        value = float(cell)
    except (TypeError, ValueError, OverflowError):
        return math.inf
    return None if math.isnan(value) else value


def _check(path: Path, names: list[str]) -> dict[str, str]:
    """Our names of the file's columns, of any case; refuse a file that lacks one."""
    columns = {name.strip().lower(): name for name in reversed(names)}
    if not any(name in columns for name in NAMES):
        raise InputError(f"{path} has no column path or id: add one that names the images")
    if "cz_kms" not in columns:
        raise InputError(f"{path} has no column cz_kms: add it, with empty cells where unknown")
    return {name: columns[name] for name in COLUMNS if name in columns}


def _read_text(path: Path) -> Read:
    """CSV, or ECSV, which is CSV below a header of comments."""
    encoding = {"newline": "", "encoding": "utf-8-sig", "errors": "replace"}
    comments, header = [], ""
    with path.open(**encoding) as stream:  # type: ignore[call-overload]
        for header in stream:
            if not header.startswith("#"):
                break
            comments.append(header[1:].removeprefix(" ").rstrip())
    units, delimiter = {}, ","
    if comments and comments[0].startswith("%ECSV"):
        try:
            described = get_header_from_yaml(comments[1:])
            units = {column["name"].lower(): column.get("unit") for column in described["datatype"]}
            delimiter = described.get("delimiter", " ")
        except Exception as error:  # astropy and PyYAML raise many kinds on a damaged header
            raise InputError(f"{path} has a damaged header ({type(error).__name__})") from None
    names = next(csv.reader([header], delimiter=delimiter), [])
    columns = _check(path, names)

    def rows() -> Iterator[Cells]:
        with path.open(**encoding) as stream:  # type: ignore[call-overload]
            below = islice(stream, len(comments) + 1, None)
            reader = csv.reader(below, delimiter=delimiter, skipinitialspace=delimiter == " ")
            try:
                for cells in reader:
                    if cells:  # no empty line
                        row = dict(zip(names, cells, strict=False))
                        yield {name: row.get(column) for name, column in columns.items()}
            except csv.Error as error:
                line = len(comments) + 1 + reader.line_num
                raise InputError(f"{path} is no CSV at line {line} ({error})") from None

    return units, rows()


def _read_parquet(path: Path) -> Read:
    try:
        file = pq.ParquetFile(path)
        names = _check(path, file.schema_arrow.names)
        units = {
            name: (file.schema_arrow.field(column).metadata or {}).get(b"unit", b"").decode()
            for name, column in names.items()
        }
        described = (file.schema_arrow.metadata or {}).get(b"table_meta_yaml")
        if described:  # as astropy writes it
            for column in get_header_from_yaml(described.decode().split("\n"))["datatype"]:
                units[column["name"].lower()] = column.get("unit") or ""
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from None

    def rows() -> Iterator[Cells]:
        try:
            with file:
                for batch in file.iter_batches(
                    1024, columns=list(names.values()), use_threads=False
                ):
                    values = [batch[column].to_pylist() for column in names.values()]
                    for cells in zip(*values, strict=True):
                        yield dict(zip(names, cells, strict=True))
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path, error) from None

    return units, rows()


def _read_fits(path: Path) -> Read:
    with open_whole(path, memmap=True) as hdus:
        tables = [hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU)]
        if not tables:
            raise InputError(f"{path} has no table: give a catalogue of galaxies")
        names = _check(path, column_names(path, tables[0]))
        units = {name: str(tables[0].columns[at].unit or "") for name, at in names.items()}

    def rows() -> Iterator[Cells]:
        with open_whole(path, memmap=True) as hdus:
            table = next(hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU))
            try:
                for start in range(0, len(table.data), 1024):
                    part = table.data[start : start + 1024]
                    values = [part.field(column).tolist() for column in names.values()]
                    for cells in zip(*values, strict=True):
                        yield dict(zip(names, cells, strict=True))
            except MANGLED as error:
                raise _damaged(path, error) from None

    return units, rows()


def _damaged(path: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:200].rstrip(".")
    return InputError(f"{path} cannot be read ({reason}): write it again")


READERS: Mapping[str, Callable[[Path], Read]] = {
    ".csv": _read_text,
    ".ecsv": _read_text,
    ".parquet": _read_parquet,
    ".fits": _read_fits,
}
