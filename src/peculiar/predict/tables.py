"""Tables of predictions on disk: in parts while they grow, then whole in one of four formats.

Parts are Parquet files. The whole is written beside its place and then moved there, one part in
memory at a time. CSV is ECSV with commas: a header of comments that holds units and what made it.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from astropy.io import fits
from astropy.table import QTable, Table
from astropy.table.meta import get_yaml_from_table

from peculiar.core.errors import InputError
from peculiar.core.files import whole_file

ENDINGS = (".ecsv", ".csv", ".fits", ".parquet")
FITS_BLOCK = 2880
Meta = Mapping[str, str | float]
Units = Mapping[str, str]


def write_part(table: pa.Table, path: Path) -> None:
    """Write one part; it is there wholly or not at all."""
    with whole_file(path) as partial:
        pq.write_table(table, partial)


def assemble(parts: Sequence[Path], units: Units, meta: Meta, output: Path) -> int:
    """Join parts to one table, in the format of the ending.

    Parameters
    ----------
    parts : sequence of Path
        Parts of equal columns, one or more, in order.
    units : mapping of str to str
        Units of the columns that have one.
    meta : mapping
        What the table says of itself, keys of at most eight letters.
    output : Path
        File to write, whose name ends in one of `ENDINGS`.

    Returns
    -------
    int
        Rows.
    """
    count = sum(int(pq.read_metadata(part).num_rows) for part in parts)
    first = _table(pq.read_table(parts[0], use_threads=False).slice(0, 0), units, meta)
    write = {".fits": _write_fits, ".parquet": _write_parquet}.get(output.suffix, _write_text)
    with whole_file(output) as partial:
        write(parts, first, count, partial)
    return count


def write_table(table: QTable, output: Path) -> None:
    """Write a table that fits in memory, in the format of the ending."""
    plain = Table(table, copy=True)
    for name in plain.colnames:  # of Quantity to a column with a unit, which every format has
        plain[name].info.format = None
    columns = {name: np.asarray(plain[name]).tolist() for name in plain.colnames}
    units = {n: str(plain[n].unit) for n in plain.colnames if plain[n].unit is not None}
    part = output.with_name(f".{output.name}.part")
    try:
        write_part(pa.table(columns), part)
        assemble([part], units, {key[:8]: value for key, value in table.meta.items()}, output)
    finally:
        part.unlink(missing_ok=True)


def check_output(output: Path) -> None:
    """Refuse an ending that has no format, and a folder that is not there."""
    if output.suffix not in ENDINGS:
        raise InputError(f"--output {output}: end its name in {', '.join(ENDINGS)}")
    if not output.parent.is_dir():
        raise InputError(f"--output {output}: make the folder {output.parent} first")


def _table(part: pa.Table, units: Units, meta: Meta) -> Table:
    """Columns of a part, with units, as astropy has them."""
    table = Table(meta=dict(meta))
    for name, column in zip(part.column_names, part.columns, strict=True):
        kind = str if pa.types.is_string(column.type) else column.type.to_pandas_dtype()
        table[name] = np.asarray(column.to_pylist(), dtype=kind)
        if name in units:
            table[name].unit = units[name]
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
    # what astropy makes columns of texts with
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
    header = fits.BinTableHDU(np.empty(0, dtype=kinds)).header
    header["NAXIS2"] = count
    for number, name in enumerate(first.colnames, start=1):
        if first[name].unit is not None:
            header[f"TUNIT{number}"] = first[name].unit.to_string("fits")
    header.update({key.upper(): value for key, value in first.meta.items()})
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


def _widths(parts: Sequence[Path], first: Table) -> dict[str, int]:
    """Letters of the longest text in each column of texts, one or more."""
    texts = [name for name in first.colnames if first[name].dtype.kind == "U"]
    width = dict.fromkeys(texts, 1)
    for part in parts:
        for name, column in zip(
            texts, pq.read_table(part, columns=texts, use_threads=False).columns, strict=True
        ):
            width[name] = max(width[name], *(len(_ascii(cell)) for cell in column.to_pylist()))
    return width


def _ascii(text: str) -> bytes:
    """FITS knows no other letters."""
    return text.encode("ascii", "backslashreplace")
