"""Read catalogues in IPAC's format, whose header of bars says where the columns are."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]

from peculiar.core.errors import InputError
from peculiar.predict.cells import Cells, Choose, Field, Read, our_columns, refuse_damage
from peculiar.predict.cells_text import lines_of, open_text

NAMES, TYPES, UNITS, NULLS = range(4)  # of the header's lines
TEXT = ("c", "date")  # types that begin so, of which any may be shortened, are text


def read_ipac(path: Path, choose: Choose = our_columns) -> Read:
    """IPAC table, with the units and nulls of its header."""
    with refuse_damage(path), open_text(path) as stream:
        header = []
        for line in lines_of(path, stream):
            if line.startswith("|"):
                header.append(line.rstrip())
            elif not line.startswith("\\"):  # keywords and comments
                break
    bars = [[k for k, letter in enumerate(line) if letter == "|"] for line in header]
    if not header or any(places != bars[0] for places in bars):
        raise InputError(f"{path} has no header of bars (|) at the same places: write it again")
    between = list(pairwise(bars[0]))
    parts = [[line[left + 1 : right].strip() for left, right in between] for line in header]
    columns = choose(path, parts[NAMES])
    at = {name: parts[NAMES].index(column) for name, column in columns.items()}
    fields = {name: _field([part[k] for part in parts]) for name, k in at.items()}
    null = {name: parts[NULLS][k] if len(parts) > NULLS else "null" for name, k in at.items()}

    def row(line: str, number: int) -> Cells:
        text = line.rstrip("\r\n")
        if any(text[bar : bar + 1].strip() for bar in bars[0]) or text[bars[0][-1] :].strip():
            return f"line {number} has text outside the columns of the header"
        if text == line and len(text) < bars[0][-1]:
            return f"line {number} ends in the middle"
        cells = {name: text[between[k][0] + 1 : between[k][1]].strip() for name, k in at.items()}
        return {name: None if cell == null[name] else cell for name, cell in cells.items()}

    def rows() -> Iterator[Cells]:
        with refuse_damage(path), open_text(path) as stream:
            for number, line in enumerate(lines_of(path, stream), start=1):
                if line.strip() and not line.startswith(("|", "\\")):
                    yield row(line, number)

    return fields, rows()


def _field(header: list[str]) -> Field:
    """A column by its cells of the header; numbers are seen by the cells."""
    text = len(header) > TYPES and header[TYPES].lower().startswith(TEXT)
    return Field(header[UNITS] if len(header) > UNITS else "", "", pa.string() if text else None)
