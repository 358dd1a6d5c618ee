"""Tables of predictions on disk, written in parts and joined into one of four formats.

Parts are Parquet files. The joined table is written beside its place and then moved there, with one
part in memory at a time. CSV is ECSV with commas: its header of comments holds units and metadata.
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from astropy.table import QTable, Table
from numpy.typing import ArrayLike

from peculiar.core.files import replace_file
from peculiar.predict.columns import Column
from peculiar.predict.tables_binary import write_fits, write_parquet

ENDINGS = (".ecsv", ".csv", ".fits", ".parquet")
Meta = Mapping[str, str | float]
Columns = Mapping[str, Column]


def printable(text: str) -> str:
    """A text that every format holds, and gives back, as it is.

    Ends of lines, other controls, bytes of a file's name that are no text, and blanks at both ends
    become escapes, such as a backslash and n.
    """
    inner = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )
    left, right = len(inner) - len(inner.lstrip()), len(inner) - len(inner.rstrip())
    return r"\x20" * left + inner.strip() + r"\x20" * right


def texts(cells: Iterable[str]) -> pa.Array:
    """A column of texts, each `printable`."""
    return pa.array([printable(cell) for cell in cells], pa.string())


def numbers(cells: ArrayLike) -> pa.Array:
    """A column of numbers (n,), or of several numbers a row (n, m)."""
    values = np.asarray(cells)
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def write_part(table: pa.Table, path: Path) -> None:
    """Write one part, whole or not at all."""
    with replace_file(path) as partial:
        pq.write_table(table, partial)


def assemble(parts: Sequence[Path], columns: Columns, meta: Meta, output: Path) -> int:
    """Join parts into one table, in the format of the ending.

    Parameters
    ----------
    parts : sequence of Path
        Parts with the same columns, one or more, in order.
    columns : mapping of str to Column
        Units, descriptions and formats.
    meta : mapping
        Metadata of the table; keys of at most eight letters.
    output : Path
        File to write, whose name ends in one of `ENDINGS`.

    Returns
    -------
    int
        Rows.
    """
    count = sum(int(pq.read_metadata(part).num_rows) for part in parts)
    meta = {
        key: printable(value) if isinstance(value, str) else value for key, value in meta.items()
    }
    first = _first(pq.read_schema(parts[0]), columns, meta)
    write = {".fits": write_fits, ".parquet": write_parquet}.get(output.suffix, _write_text)
    with replace_file(output) as partial:
        write(parts, first, count, partial)
    return count


def write_table(table: QTable, output: Path) -> None:
    """Write a table that fits in memory, in the format of the ending."""
    columns = {
        name: Column(
            str(table[name].info.unit or ""),
            table[name].info.description or "",
            table[name].info.format,
        )
        for name in table.colnames
    }
    cells = {
        name: texts(table[name]) if table[name].dtype.kind == "U" else numbers(table[name])
        for name in table.colnames
    }
    part = output.with_name(f".{output.name}.part")
    try:
        write_part(pa.table(cells), part)
        assemble([part], columns, {key[:8]: value for key, value in table.meta.items()}, output)
    finally:
        part.unlink(missing_ok=True)


def _first(schema: pa.Schema, columns: Columns, meta: Meta) -> Table:
    """An astropy table without rows, with types, units, descriptions and formats."""
    table = Table(meta=dict(meta))
    for field in schema:
        size: tuple[int, ...] = ()
        kind = field.type
        if pa.types.is_fixed_size_list(kind):
            size, kind = (kind.list_size,), kind.value_type
        dtype = str if pa.types.is_string(kind) else kind.to_pandas_dtype()
        table[field.name] = np.empty((0, *size), dtype)
        if field.name in columns:
            column = columns[field.name]
            table[field.name].unit = column.unit or None
            table[field.name].description = column.description or None
            table[field.name].format = column.format
    return table


def _write_text(parts: Sequence[Path], first: Table, _: int, path: Path) -> None:
    header = io.StringIO()
    first.write(header, format="ascii.ecsv", delimiter=",")
    with path.open("w", newline="", encoding="utf-8") as stream:
        stream.write(header.getvalue())
        writer = csv.writer(stream, lineterminator="\n")
        for part in parts:
            columns = [
                map(_json, column.to_pylist())
                if pa.types.is_fixed_size_list(column.type)
                else column.to_pylist()
                for column in pq.read_table(part, use_threads=False).columns
            ]
            writer.writerows(zip(*columns, strict=True))


def _json(cells: Sequence[float | None]) -> str:
    """Several numbers in one cell of ECSV; NaN stands as Python writes it, which astropy reads."""
    return json.dumps(cells, separators=(",", ":"))
