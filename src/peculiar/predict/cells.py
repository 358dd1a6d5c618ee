"""What the cells of a catalogue are, whatever its format, and which of its columns are ours."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from math import inf, isnan
from numbers import Number
from pathlib import Path
from types import MappingProxyType
from typing import Any

import astropy.units as u
import pyarrow as pa  # type: ignore[import-untyped]

from peculiar.core.errors import InputError
from peculiar.core.photometry import BANDS
from peculiar.predict.columns import USED

NAMES = ("path", "id")
COLUMNS = (
    *NAMES,
    "cz_kms",
    "cz_error_kms",
    "cz_frame",
    "v_prior_kms",
    "v_prior_error_kms",
    "ebv",
    *(f"extinction_{band}" for band in BANDS),
    "ra",
    "dec",
    "distance_mpc",
    "camera",
)
Z = "z"  # redshift without a unit, in place of cz_kms
Cells = dict[str, Any] | str
"""What one row has in each of the `COLUMNS` of its file, as the file has it and None where it says
that there is nothing; or why the row cannot be read."""


@dataclass(frozen=True)
class Field:
    """What a file says of a column.

    Attributes
    ----------
    unit, description : str
        As text; empty where the file says nothing.
    kind : pyarrow.DataType or None
        Type of its cells: text, truth values, numbers, or vectors of these; `NOT_PASSED` for
        any other; None where the cells are text, and say themselves what they hold.
    """

    unit: str = ""
    description: str = ""
    kind: pa.DataType | None = None


NOT_PASSED = pa.null()
Read = tuple[Mapping[str, Field], Iterator[Cells]]
"""What the file says of each column, and the rows."""
Choose = Callable[[Path, list[str]], Mapping[str, str]]
"""Maps the path and the file's columns to the file's name of each column that is read."""
# as pandas, astropy, TOPCAT and databases write it
MISSING = {"", "nan", "+nan", "-nan", "null", "none", "n/a", "na", "<na>", "--", "---", "-"}
INFINITE = {"inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"}
# Python's own `float` also reads 5_012 and the digits of every script
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
WHOLE = re.compile(r"(\d+)\.0+", re.ASCII)
LONG, ALIKE = 6, 0.84  # letters of names that may be misspelt, and how alike names then are
# too short to be alike; ignored, a redshift's error would be 0 and a prior the usual one
WITHOUT_UNIT = {
    "cz_error_kms": ("cz_error", "cz_err"),
    "v_prior_kms": ("v_prior",),
    "v_prior_error_kms": ("v_prior_error", "v_prior_err"),
}
Z_ERRORS = ("z_err", "z_error", "zerr", "e_z")  # of `Z`; ours is in km/s
EXACT = 2**53  # whole numbers below are exact as floats


def our_columns(
    path: Path, names: list[str], columns_given: Mapping[str, str] = MappingProxyType({})
) -> dict[str, str]:
    """Give the file's name of each of our columns, whatever its case.

    Parameters
    ----------
    path : Path
        For messages.
    names : list of str
        All columns of the file, in order.
    columns_given : mapping of str to str
        The file's name of columns that it calls otherwise, by ours; `Z` too may be given.

    Raises
    ------
    InputError
        When a column is there twice, one that is given or needed is not there, or one that is not
        there seems to be misspelt: without it an error would be 0 and a galaxy elsewhere.
    """
    plain = [name.strip().lower() for name in names]
    for name in (*COLUMNS, *(f"{name}.mask" for name in COLUMNS)):
        if plain.count(name) > 1:
            raise InputError(f"{path} has the column {name} more than once: keep one")
    columns = dict(zip(plain, names, strict=True))
    columns.pop(Z, None)  # it may be the magnitude in the band z, so it is only taken if given
    columns |= {ours: _given(path, names, ours, column) for ours, column in columns_given.items()}
    others = [name for name in columns if name not in COLUMNS]
    if "d_p" in columns:  # a table of predictions: what was used, perhaps passed on, is no input
        others = [name for name in others if re.sub("(_in)+$", "", name) not in USED]
    for name in COLUMNS:
        if name not in columns and len(name) >= LONG:
            without_unit = [other for other in others if other in WITHOUT_UNIT.get(name, ())]
            for other in without_unit or get_close_matches(name, others, 1, ALIKE):
                raise InputError(
                    f"{path} has a column {other[:60]} and none {name}: call it {name}, or "
                    "something less like it"
                )
    if Z in columns_given and "cz_error_kms" not in columns:
        for other in Z_ERRORS:
            if other in columns:
                raise InputError(
                    f"{path} has a column {other}, and --column {Z} is given: add this error times "
                    "the speed of light as cz_error_kms, or call it something else"
                )
    if not any(name in columns for name in NAMES):
        raise InputError(f"{path} has no column path or id: add one that names the images")
    if "cz_kms" in columns and Z in columns:
        raise InputError(f"{path} has a column cz_kms, and --column {Z} is given: give one of them")
    if "cz_kms" not in columns and Z not in columns:
        raise InputError(f"{path} has no column cz_kms: add it, with empty cells where unknown")
    return {name: columns[name] for name in (*COLUMNS, Z) if name in columns}


def _given(path: Path, names: list[str], ours: str, column: str) -> str:
    """The file's column that is given for one of ours."""
    if column not in names:
        raise InputError(
            f"{path} has no column {column}, which --column {ours}={column} names: give one of "
            f"{', '.join(names)[:200]}"
        )
    for name in names:
        if name.strip().lower() == ours and name != column and ours != Z:
            raise InputError(
                f"{path} has a column {name}, and --column {ours}={column} is given: leave it out, "
                "or rename that column"
            )
    return column


def all_columns(path: Path, names: list[str]) -> dict[str, str]:
    """Give all columns of a file by their own names, but for those that mask others.

    Raises
    ------
    InputError
        When a column is there twice: a table of predictions repeats both.
    """
    for name in names:
        if names.count(name) > 1:
            said = f"the column {name}" if name.strip() else "a column without a name"
            raise InputError(f"{path} has {said} more than once: keep one, or name them apart")
    masks = {f"{name}.mask" for name in names}
    return {name: name for name in names if name not in masks}


def unit_factor(path: Path, name: str, unit: str | None, wanted: u.Unit) -> float:
    """Factor from a column's unit to the wanted one; 1 for a column without a unit."""
    if not unit:
        return 1.0
    try:
        return float(u.Unit(unit).to(wanted))
    except (ValueError, TypeError, u.UnitsError):
        raise InputError(
            f"{path} has {name} in {unit!r}, which is not {str(wanted) or 'a plain number'}: "
            "correct the unit"
        ) from None


def number_of(cell: Any) -> float | None:
    """Number of a cell; None where it is missing, infinity where it is no number."""
    if isinstance(cell, str):
        plain = cell.strip()
        if plain.lower() in MISSING:
            return None
        return float(plain) if NUMBER.fullmatch(plain) else inf
    if cell is None:
        return None
    if isinstance(cell, bool) or not isinstance(cell, Number):
        return inf
    try:
        value = float(cell)  # type: ignore[arg-type]  # complex numbers and dates have none
    except (TypeError, ValueError, OverflowError):
        return inf
    return None if isnan(value) else value


def text_of(cell: Any) -> str:
    """A path or id; whole numbers without the decimals that a column with empty cells gives."""
    if cell is None or cell != cell:
        return ""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < EXACT:
        return str(int(cell))
    if not isinstance(cell, str):
        return str(cell)
    stripped = cell.strip()
    whole = WHOLE.fullmatch(stripped)
    return whole[1] if whole else stripped


def decoded(cell: Any) -> Any:
    """A cell whose bytes are text, with what is no UTF-8 as escapes; other cells as they are."""
    return cell.decode(errors="backslashreplace") if isinstance(cell, bytes) else cell


@contextmanager
def refuse_damage(path: Path) -> Iterator[None]:
    """Say in one sentence what a library could not read.

    Astropy, PyArrow, PyYAML and expat raise errors of many kinds on damaged files.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # a fault of the disk, not of the file
        raise damaged(path, error) from None


def damaged(path: Path, error: Exception) -> InputError:
    """A sentence of a library's error."""
    reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
    return InputError(f"{path} cannot be read ({reason}): write it again")
