"""Read catalogues in Parquet and in FITS, a thousand rows at a time."""

from collections.abc import Iterator
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from astropy.io import fits
from astropy.table.meta import get_header_from_yaml

from peculiar.core.errors import InputError
from peculiar.galaxies.fits import column_names, open_fits
from peculiar.predict.cells import (
    NOT_PASSED,
    Cells,
    Choose,
    Field,
    Read,
    decoded,
    number_of,
    our_columns,
    refuse_damage,
)
from peculiar.predict.cells_votable import fields_of_votable

TABLES = (fits.BinTableHDU, fits.TableHDU)
AT_ONCE = 1024
BY_ASTROPY, BY_TOPCAT = b"table_meta_yaml", b"IVOA.VOTable-Parquet.content"
PASSED = (
    (pa.types.is_boolean, pa.bool_()),
    (pa.types.is_uint64, pa.string()),  # half of them are no int64
    (pa.types.is_int64, pa.int64()),
    (pa.types.is_uint32, pa.int64()),
    (pa.types.is_int32, pa.int32()),
    (pa.types.is_uint16, pa.int32()),
    (pa.types.is_integer, pa.int16()),
    (pa.types.is_float64, pa.float64()),
    (pa.types.is_floating, pa.float32()),
    (pa.types.is_decimal, pa.float64()),
    (pa.types.is_temporal, pa.string()),
    (pa.types.is_string, pa.string()),
    (pa.types.is_large_string, pa.string()),
    (pa.types.is_string_view, pa.string()),
    (pa.types.is_binary, pa.string()),
    (pa.types.is_large_binary, pa.string()),
)


def read_parquet(path: Path, choose: Choose = our_columns) -> Read:
    """Parquet, with units as this package, astropy or TOPCAT writes them."""
    with refuse_damage(path):
        file = pq.ParquetFile(path, page_checksum_verification=True)
        names = choose(path, file.schema_arrow.names)
        described = _parquet_fields(file.schema_arrow)
        fields = {name: described[column] for name, column in names.items()}
        masks = {*file.schema_arrow.names} & {f"{column}.mask" for column in names.values()}

    def rows() -> Iterator[Cells]:
        with refuse_damage(path), file:
            wanted = [*names.values(), *sorted(masks)]
            for batch in file.iter_batches(AT_ONCE, columns=wanted, use_threads=False):
                values = [_unmasked(batch, column) for column in names.values()]
                for cells in zip(*values, strict=True):
                    yield dict(zip(names, cells, strict=True))

    return fields, rows()


def _parquet_fields(schema: pa.Schema) -> dict[str, Field]:
    """What a file says of its columns; astropy's and TOPCAT's words come first."""
    said = {
        field.name: Field((field.metadata or {}).get(b"unit", b"").decode(errors="replace"))
        for field in schema
    }
    about = schema.metadata or {}
    if BY_ASTROPY in about:
        for column in get_header_from_yaml(about[BY_ASTROPY].decode().split("\n"))["datatype"]:
            unit, description = (str(column.get(key) or "") for key in ("unit", "description"))
            said[column["name"]] = Field(unit, description)
    elif BY_TOPCAT in about:
        said |= fields_of_votable(about[BY_TOPCAT])
    by_plain = {name.strip().lower(): field for name, field in said.items()}
    return {
        field.name: replace(
            said.get(field.name) or by_plain[field.name.strip().lower()],
            kind=_passed_kind(field.type),
        )
        for field in schema
    }


def _passed_kind(kind: pa.DataType) -> pa.DataType:
    """Type in which a column is passed on: one that every format holds."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_fixed_size_list(kind):
        inner = _passed_kind(kind.value_type)
        number = pa.types.is_floating(inner) or pa.types.is_integer(inner)
        return pa.list_(inner, kind.list_size) if number and kind.list_size else NOT_PASSED
    for is_kind, passed in PASSED:
        if is_kind(kind):
            return passed
    return NOT_PASSED


def _unmasked(batch: pa.RecordBatch, column: str) -> list[Any]:
    """Cells of a column; None where they are null, or astropy wrote that they are masked."""
    cells = [decoded(cell) for cell in batch[column].to_pylist()]
    if f"{column}.mask" not in batch.schema.names:
        return cells
    masked = batch[f"{column}.mask"].to_pylist()
    return [cell if shown is False else None for cell, shown in zip(cells, masked, strict=True)]


def read_fits(path: Path, choose: Choose = our_columns) -> Read:
    """FITS, binary tables and tables of text, as astropy, TOPCAT and VizieR write them."""
    with open_fits(path, memmap=True) as hdus, refuse_damage(path):
        tables = [hdu for hdu in hdus if isinstance(hdu, TABLES)]
        if not tables:
            raise InputError(f"{path} has no table: give a catalogue of galaxies")
        if len(tables) > 1:
            raise InputError(f"{path} has {len(tables)} tables: give a file with one")
        if not (tables[0].verify_datasum() and tables[0].verify_checksum()):
            raise InputError(f"{path} has another check sum than its header says: write it again")
        all_names = column_names(path, tables[0])
        places = {name: all_names.index(found) for name, found in choose(path, all_names).items()}
        fields = {name: _fits_field(tables[0], at) for name, at in places.items()}

    def rows() -> Iterator[Cells]:
        with open_fits(path, memmap=True) as hdus, refuse_damage(path):
            table = next(hdu for hdu in hdus if isinstance(hdu, TABLES))
            for start in range(0, len(table.data), AT_ONCE):
                part = table.data[start : start + AT_ONCE]
                values = [_fits_cells(part, table.columns[at], at) for at in places.values()]
                for cells in zip(*values, strict=True):
                    yield dict(zip(places, cells, strict=True))

    return fields, rows()


def _fits_field(table: fits.BinTableHDU | fits.TableHDU, at: int) -> Field:
    column, code = table.columns[at], str(table.columns[at].format).strip("0123456789 ()")[:1]
    about = str(column.unit or ""), str(table.header.get(f"TCOMM{at + 1}") or "")
    if isinstance(table, fits.TableHDU):
        return Field(*about, pa.string() if code == "A" else None)
    if code in "PQXCM":  # of another length in each row, bits, complex numbers
        return Field(*about, NOT_PASSED)
    values = np.asarray(table.data[:0].field(at))
    plain = values.dtype.newbyteorder("=")
    kind = pa.string() if plain.kind in "SU" else _passed_kind(pa.from_numpy_dtype(plain))
    if values.ndim > 1:
        flat = values.ndim == 2 and kind not in (pa.string(), NOT_PASSED)
        kind = pa.list_(kind, values.shape[1]) if flat else NOT_PASSED
    return Field(*about, kind)


def _fits_cells(part: fits.FITS_rec, column: fits.Column, at: int) -> list[Any]:
    """Cells of a column; None where the file says, by TNULL or blanks, that there is nothing."""
    stored = part.view(np.ndarray)
    raw = stored[stored.dtype.names[at]]
    if raw.dtype.kind == "S" and raw.ndim == 1:
        texts = [decoded(cell.split(b"\0")[0].strip()) for cell in raw.tolist()]
        if "A" in str(column.format):
            return texts
        return [_scaled(text, column) for text in texts]
    values = np.asarray(part.field(at))
    if isinstance(column.null, int) and raw.dtype.kind in "iu":
        # astropy writes the null of unsigned numbers without the offset of those that it stores
        hidden = (raw == column.null) | (values == column.null)
    elif values.dtype.kind == "b" and raw.shape == values.shape:
        hidden = raw == 0  # neither T nor F
    else:
        return list(values.tolist())
    return list(np.ma.MaskedArray(values, hidden).tolist())


def _scaled(text: str, column: fits.Column) -> Any:
    """A number in a table of text, which astropy reads as 0 where it is missing."""
    if not text or text == str(column.null).strip():
        return None
    scale, zero = column.bscale or 1, column.bzero or 0
    value = number_of(text.upper().replace("D", "E"))
    if value is None or (scale, zero) == (1, 0) or not isfinite(value):
        return text.upper().replace("D", "E")
    return value * scale + zero
