"""Tables of predictions on disk, written in parts and joined into one of four formats.

Parts are Parquet files. The joined table is written beside its place and then moved there, with one
part in memory at a time. CSV is ECSV with commas: its header of comments holds units and metadata.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from astropy.io import fits
from astropy.table import QTable, Table
from astropy.table.meta import get_yaml_from_table

from peculiar.core.files import replace_file
from peculiar.predict.columns import Column

ENDINGS = (".ecsv", ".csv", ".fits", ".parquet")
FITS_BLOCK = 2880
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
    first = _table(pq.read_table(parts[0], use_threads=False).slice(0, 0), columns, meta)
    write = {".fits": _write_fits, ".parquet": _write_parquet}.get(output.suffix, _write_text)
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
        name: texts(table[name]) if table[name].dtype.kind == "U" else np.asarray(table[name])
        for name in table.colnames
    }
    part = output.with_name(f".{output.name}.part")
    try:
        write_part(pa.table(cells), part)
        assemble([part], columns, {key[:8]: value for key, value in table.meta.items()}, output)
    finally:
        part.unlink(missing_ok=True)


def _table(part: pa.Table, columns: Columns, meta: Meta) -> Table:
    """An astropy table of a part, with units, descriptions and formats."""
    table = Table(meta=dict(meta))
    for name, cells in zip(part.column_names, part.columns, strict=True):
        kind = str if pa.types.is_string(cells.type) else cells.type.to_pandas_dtype()
        table[name] = np.asarray(cells.to_pylist(), dtype=kind)
        if name in columns:
            column = columns[name]
            table[name].unit = column.unit or None
            table[name].description = column.description or None
            table[name].format = column.format
    return table


def _write_text(parts: Sequence[Path], first: Table, _: int, path: Path) -> None:
    header = io.StringIO()
    first.write(header, format="ascii.ecsv", delimiter=",")
    with path.open("w", newline="", encoding="utf-8") as stream:
        stream.write(header.getvalue())
        writer = csv.writer(stream, lineterminator="\n")
        for part in parts:
            columns = [
                column.to_pylist() for column in pq.read_table(part, use_threads=False).columns
            ]
            writer.writerows(zip(*columns, strict=True))


def _write_parquet(parts: Sequence[Path], first: Table, _: int, path: Path) -> None:
    described = "\n".join(get_yaml_from_table(first)).encode()  # read by astropy
    fields = [
        field.with_metadata({"unit": str(first[field.name].unit)})
        if first[field.name].unit is not None
        else field
        for field in pq.read_schema(parts[0])
    ]
    plain = {key: str(value) for key, value in first.meta.items()}
    # the width that astropy gives text columns
    plain |= {f"table::len::{name}": str(n) for name, n in _widths(parts, first).items()}
    schema = pa.schema(fields, {**plain, b"table_meta_yaml": described})
    with pq.ParquetWriter(path, schema) as writer:
        for part in parts:
            writer.write_table(pq.read_table(part, use_threads=False).cast(schema))


def _write_fits(parts: Sequence[Path], first: Table, count: int, path: Path) -> None:
    width = _widths(parts, first)
    kinds = [
        (n, f"S{width[n]}" if n in width else first[n].dtype.newbyteorder(">"))
        for n in first.colnames
    ]
    header = _fits_header(first, width)
    header["NAXIS2"] = count
    with path.open("wb") as stream:
        for part_header in (fits.PrimaryHDU().header, header):
            stream.write(part_header.tostring().encode("ascii"))
        for part in parts:
            columns = pq.read_table(part, use_threads=False)
            rows = np.empty(len(columns), dtype=kinds)
            for name, column in zip(columns.column_names, columns.columns, strict=True):
                cells = column.to_pylist()
                rows[name] = [_ascii(cell) for cell in cells] if name in width else cells
            stream.write(rows.tobytes())
        stream.write(bytes(-stream.tell() % FITS_BLOCK))


def _fits_header(first: Table, width: Mapping[str, int]) -> fits.Header:
    """Header as astropy writes it, for text of these widths."""
    empty = first.copy()
    for name, letters in width.items():
        empty[name] = first[name].astype(f"U{letters}")
    for key, value in first.meta.items():
        empty.meta[key] = _ascii(value).decode() if isinstance(value, str) else value
    written = io.BytesIO()
    empty.write(written, format="fits")
    written.seek(0)
    with fits.open(written) as hdus:
        header = hdus[1].header.copy()
    for number, name in enumerate(first.colnames, start=1):
        if first[name].description:  # as other software than astropy reads it
            header[f"TCOMM{number}"] = first[name].description
    return header


def _widths(parts: Sequence[Path], first: Table) -> dict[str, int]:
    """Length of the longest text in each text column, at least one."""
    texts = [name for name in first.colnames if first[name].dtype.kind == "U"]
    width = dict.fromkeys(texts, 1)
    for part in parts:
        for name, column in zip(
            texts, pq.read_table(part, columns=texts, use_threads=False).columns, strict=True
        ):
            width[name] = max(width[name], *(len(_ascii(cell)) for cell in column.to_pylist()))
    return width


def _ascii(text: str) -> bytes:
    """Text for FITS, which holds ASCII alone."""
    return text.encode("ascii", "backslashreplace")
