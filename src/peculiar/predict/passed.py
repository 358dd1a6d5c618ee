"""The columns of a catalogue that its table of predictions repeats: all of them, as they stand.

Text formats do not say what a column holds, so its cells are read once before: a column is of
truth values, whole numbers or numbers if all of its cells are, and else of text as it stands.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import isfinite
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from peculiar.core.errors import InputError
from peculiar.predict.cells import (
    EXACT,
    INFINITE,
    MISSING,
    NOT_PASSED,
    NUMBER,
    Cells,
    Field,
    all_columns,
    number_of,
    refuse_damage,
)
from peculiar.predict.columns import Column
from peculiar.predict.readers import read_cells
from peculiar.predict.tables import printable, texts

SUFFIX = "_in"  # of a column whose name is one of ours
TRUTH = {"true": True, "false": False}
LARGEST, DIGITS = 2**63, 19  # whole numbers beyond are text


@dataclass(frozen=True)
class Passed:
    """Columns of a catalogue that are passed on.

    Attributes
    ----------
    path : Path
        The catalogue.
    names : mapping of str to str
        Name in the table of predictions of each column of the file.
    fields : mapping of str to Field
        What the file says of them, all with a kind.
    left_out : sequence of str
        Columns of the file that no table can hold.
    given : mapping of str to str
        See `peculiar.predict.catalogue.chunks`.
    """

    path: Path
    names: Mapping[str, str]
    fields: Mapping[str, Field]
    left_out: Sequence[str]
    given: Mapping[str, str]

    @property
    def columns(self) -> dict[str, Column]:
        """Units and descriptions, by name in the table of predictions."""
        return {
            name: Column(
                field.unit,
                printable(field.description or f"column {given.strip()} of the input"),
                None,
            )
            for (given, name), field in zip(self.names.items(), self.fields.values(), strict=True)
        }

    def describe(self) -> dict[str, str]:
        """Metadata: which columns have another name than in the input, and which are left out."""
        renamed = [f"{given} is {name}" for given, name in self.names.items() if given != name]
        about = {"renamed": ", ".join(renamed), "left_out": ", ".join(self.left_out)}
        return {key: value for key, value in about.items() if value}

    def tables(self, size: int) -> Iterator[pa.Table]:
        """The columns, `size` rows at a time; a row that cannot be read has none of its cells."""
        _, rows = read_cells(self.path, self._choose, self.given)
        while chunk := list(islice(rows, size)):
            with refuse_damage(self.path):
                columns = {
                    name: _array([_cell(row, given) for row in chunk], self.fields[given].kind)
                    for given, name in self.names.items()
                }
            yield pa.table(columns)

    def _choose(self, path: Path, names: list[str]) -> Mapping[str, str]:
        there = all_columns(path, names)
        if not {*self.names} <= {*there}:
            raise InputError(f"{path} has lost a column while it is read: wait until it is written")
        return {name: name for name in self.names}


def passed_columns(
    path: Path, taken: Sequence[str], given: Mapping[str, str] = MappingProxyType({})
) -> Passed:
    """Find the columns of a catalogue to pass on, their names and their types.

    Parameters
    ----------
    path : Path
        Catalogue in a format of `peculiar.predict.readers`.
    taken : sequence of str
        Names of columns that are ours. A column of the file of such a name, in any case, gets the
        suffix `_in`.
    given : mapping of str to str
        See `peculiar.predict.catalogue.chunks`.

    Raises
    ------
    InputError
        When the file cannot be read, or has a column twice.
    """
    fields, rows = read_cells(path, all_columns, given)
    unsaid = [name for name, field in fields.items() if field.kind is None]
    kinds = _kinds(rows, unsaid) if unsaid else {}
    kept = {
        name: replace(field, kind=kinds.get(name, field.kind))
        for name, field in fields.items()
        if field.kind != NOT_PASSED
    }
    used, names = {name.lower() for name in taken}, {}
    for number, column in enumerate(kept, start=1):
        name = printable(column.strip()) or f"column_{number}"
        while name.lower() in used:
            name += SUFFIX
        used.add(name.lower())
        names[column] = name
    left_out = [printable(name) for name in fields if name not in kept]
    return Passed(path, names, kept, left_out, given)


def _kinds(rows: Iterator[Cells], names: Sequence[str]) -> dict[str, pa.DataType]:
    """Types of columns of text cells: what all cells that are not missing have in common."""
    found: dict[str, set[str]] = {name: set() for name in names}
    for row in rows:
        if not isinstance(row, str):
            for name, seen in found.items():
                if "text" not in seen:
                    seen.add(_kind(row[name]))
    return {name: _common(seen - {""}) for name, seen in found.items()}


def _common(kinds: set[str]) -> pa.DataType:
    if kinds == {"truth"}:
        return pa.bool_()
    if kinds and kinds <= {"whole", "large"}:
        return pa.int64()
    return pa.float64() if kinds <= {"whole", "number"} else pa.string()


def _kind(cell: Any) -> str:
    """What a cell of text holds; empty for nothing, large for what no float holds exactly."""
    if not isinstance(cell, str):
        return "" if cell is None else "number"
    plain = cell.strip().lower()
    if plain in MISSING:
        return ""
    if plain in TRUTH:
        return "truth"
    digits = plain.lstrip("+-")
    if not NUMBER.fullmatch(plain):
        return "number" if plain in INFINITE else "text"
    if not digits.isdecimal():
        return "number" if isfinite(float(plain)) else "text"
    # a number with zeros before it is a name, and one that is not exact would be another
    named = len(digits) > 1 and digits.startswith("0")
    if named or len(digits) > DIGITS or int(digits) >= LARGEST:
        return "text"
    return "large" if int(digits) > EXACT else "whole"


def _cell(row: Cells, name: str) -> Any:
    return None if isinstance(row, str) else row[name]


def _array(cells: list[Any], kind: pa.DataType) -> pa.Array:
    """A column of a type, with nulls where cells are missing; text that is missing is empty."""
    if kind == pa.string():
        return texts("" if cell is None else str(cell) for cell in cells)
    if pa.types.is_fixed_size_list(kind):
        missing = [None] * kind.list_size
        flat = [value for cell in cells for value in (missing if cell is None else cell)]
        return pa.FixedSizeListArray.from_arrays(pa.array(flat, kind.value_type), kind.list_size)
    read: Callable[[Any], Any] = _real
    if pa.types.is_boolean(kind):
        read = _truth
    elif pa.types.is_integer(kind):
        read = _whole
    return pa.array([read(cell) for cell in cells], kind)


def _truth(cell: Any) -> bool | None:
    return TRUTH.get(cell.strip().lower()) if isinstance(cell, str) else cell


def _whole(cell: Any) -> int | None:
    if isinstance(cell, str):
        return int(cell) if _kind(cell) in ("whole", "large") else None
    return None if cell is None else int(cell)


def _real(cell: Any) -> float | None:
    if isinstance(cell, str):
        plain = cell.strip().lower()
        return float(plain) if plain in INFINITE else number_of(plain)
    return None if cell is None else float(cell)
