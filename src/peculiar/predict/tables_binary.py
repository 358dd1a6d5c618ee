"""Write tables of predictions in Parquet and in FITS, one part in memory at a time."""

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from astropy.io import fits
from astropy.io.votable.tree import Info, VOTableFile
from astropy.table import Table
from astropy.table.meta import get_yaml_from_table
from numpy.typing import NDArray

from peculiar.core.errors import InputError
from peculiar.predict.columns import UCDS

FITS_BLOCK = 2880
VOPARQUET = "IVOA.VOTable-Parquet"  # keys of its metadata begin so


def write_parquet(parts: Sequence[Path], first: Table, _: int, path: Path) -> None:
    """Parquet; see `peculiar.predict.tables.assemble` for the parts.

    Units and descriptions stand three times: as astropy reads them, as the VOTable of the IVOA's
    convention VOParquet, and units with each column.

    Parameters
    ----------
    parts : sequence of Path
        Parts with the same columns.
    first : Table
        Table without rows, with the types, units, descriptions and formats of the columns.
    path : Path
        File to write.
    """
    described = "\n".join(get_yaml_from_table(first)).encode()  # read by astropy
    fields = [
        field.with_metadata({"unit": str(first[field.name].unit)})
        if first[field.name].unit is not None
        else field
        for field in pq.read_schema(parts[0])
    ]
    width = _widths(parts, first)
    plain = {key: str(value) for key, value in first.meta.items()}
    # the width that astropy gives text columns
    plain |= {f"table::len::{name}": str(n) for name, n in width.items()}
    votable = {f"{VOPARQUET}.version": "1.0", f"{VOPARQUET}.content": _votable_header(first, width)}
    schema = pa.schema(fields, {**plain, **votable, b"table_meta_yaml": described})
    with pq.ParquetWriter(path, schema) as writer:
        for part in parts:
            writer.write_table(pq.read_table(part, use_threads=False).cast(schema))


def _votable_header(first: Table, width: Mapping[str, int]) -> bytes:
    """A VOTable without data that describes the columns, with UCDs, and the metadata as INFO.

    Texts have their longest's width, since astropy's reader takes no others.
    """
    written = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names and units that are none of the VO's
        votable = VOTableFile.from_table(first)
        table = votable.get_first_table()
        for field in table.fields:
            field.ucd = UCDS.get(field.name)
            if first[field.name].dtype.kind == "U":
                field.arraysize = str(width[field.name])
            elif first[field.name].dtype.kind == "b":
                field.datatype = "boolean"  # astropy's own word is one for bits
        table.infos.extend(
            Info(name=key, value=str(value)) for key, value in first.meta.items() if str(value)
        )
        votable.to_xml(written)
    return written.getvalue()


def write_fits(parts: Sequence[Path], first: Table, count: int, path: Path) -> None:
    """FITS, a binary table of `count` rows; other parameters as in `write_parquet`.

    Missing whole numbers and truth values are TNULL, which no cell of the column has.
    """
    width, nulls = _widths(parts, first), _nulls(parts, first)
    kinds = [
        (name, *_stored_type(first, name, width.get(name), name in nulls))
        for name in first.colnames
    ]
    header = _header(first, width, nulls)
    header["NAXIS2"] = count
    with path.open("wb") as stream:
        for part_header in (fits.PrimaryHDU().header, header):
            stream.write(part_header.tostring().encode("ascii"))
        for part in parts:
            table = pq.read_table(part, use_threads=False)
            rows = np.empty(len(table), dtype=kinds)
            for name in first.colnames:
                column = table[name].combine_chunks()
                if name in width:
                    rows[name] = [_ascii(cell) for cell in column.to_pylist()]
                else:
                    rows[name] = _stored(column, nulls.get(name)).reshape(rows[name].shape)
            stream.write(rows.tobytes())
        stream.write(bytes(-stream.tell() % FITS_BLOCK))


def _stored_type(
    first: Table, name: str, width: int | None, has_nulls: bool
) -> tuple[str | np.dtype[np.generic], tuple[int, ...]]:
    """Type and shape of a cell as FITS stores it."""
    column = first[name]
    if width is not None:
        return f"S{width}", ()
    if column.dtype.kind == "b":
        return (">i2" if has_nulls else "i1"), column.shape[1:]
    return column.dtype.newbyteorder(">"), column.shape[1:]


def _stored(column: pa.Array, null: int | None) -> NDArray[np.generic]:
    """Numbers of a column, one after the other, as FITS stores them."""
    flat = _flat(column)
    if pa.types.is_boolean(flat.type):
        if null is not None:
            return np.asarray(flat.cast(pa.int16()).fill_null(null))
        return np.where(flat.to_numpy(zero_copy_only=False), ord("T"), ord("F"))
    if pa.types.is_floating(flat.type):
        return np.asarray(flat.fill_null(np.nan))
    return np.asarray(flat if null is None else flat.fill_null(null))


def _flat(column: pa.Array) -> pa.Array:
    return column.flatten() if pa.types.is_fixed_size_list(column.type) else column


def _nulls(parts: Sequence[Path], first: Table) -> dict[str, int]:
    """A number that stands for what is missing, for each column of whole numbers that needs one."""
    names = [name for name in first.colnames if first[name].dtype.kind in "ib"]
    missing: set[str] = set()
    ends: dict[str, tuple[int, int]] = {}
    for part in parts:
        table = pq.read_table(part, columns=names, use_threads=False)
        for name in names:
            cells = _flat(table[name].combine_chunks())
            if cells.null_count:
                missing.add(name)
            found = pc.min_max(cells).as_py()
            if found["min"] is not None:
                low, high = ends.get(name, (found["min"], found["max"]))
                ends[name] = min(low, found["min"]), max(high, found["max"])
    return {name: _unused(name, first[name].dtype, *ends.get(name, (0, 0))) for name in missing}


def _unused(name: str, kind: np.dtype[np.generic], low: int, high: int) -> int:
    """The least or the greatest number of a type, which no cell has."""
    ends = np.iinfo(np.int16 if kind.kind == "b" else kind.type)  # type: ignore[type-var]
    for free in (ends.min, ends.max):
        if not low <= free <= high:
            return int(free)
    raise InputError(
        f"the column {name} has missing cells and both {ends.min} and {ends.max}, so FITS has no "
        "number for what is missing: write another format"
    )


def _header(first: Table, width: Mapping[str, int], nulls: Mapping[str, int]) -> fits.Header:
    """Header as astropy writes it, for text of these widths."""
    empty = first.copy()
    for name, letters in width.items():
        empty[name] = first[name].astype(f"U{letters}")
    for name in nulls:
        if first[name].dtype.kind == "b":
            empty[name] = first[name].astype(np.int16)
    for key, value in first.meta.items():
        empty.meta[key] = _ascii(value).decode() if isinstance(value, str) else value
    empty.rename_columns(first.colnames, [_ascii(name).decode() for name in first.colnames])
    written = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of units that are none of FITS', written below
        empty.write(written, format="fits")
    written.seek(0)
    with fits.open(written) as hdus:
        header = hdus[1].header.copy()
    for number, name in enumerate(first.colnames, start=1):
        unit = str(first[name].unit or "")
        if unit and f"TUNIT{number}" not in header:
            header.insert(f"TFORM{number}", (f"TUNIT{number}", _ascii(unit).decode()), after=True)
        if name in nulls:
            header.insert(f"TFORM{number}", (f"TNULL{number}", nulls[name]), after=True)
        if first[name].description:  # as other software than astropy reads it
            header[f"TCOMM{number}"] = _ascii(first[name].description).decode()
    return header


def _widths(parts: Sequence[Path], first: Table) -> dict[str, int]:
    """Length of the longest text in each text column, at least one."""
    texts = [name for name in first.colnames if first[name].dtype.kind == "U"]
    width = dict.fromkeys(texts, 1)
    for part in parts:
        table = pq.read_table(part, columns=texts, use_threads=False)
        for name in texts:
            width[name] = max(width[name], *(len(_ascii(cell)) for cell in table[name].to_pylist()))
    return width


def _ascii(text: str) -> bytes:
    """Text for FITS, which holds ASCII alone."""
    return text.encode("ascii", "backslashreplace")
