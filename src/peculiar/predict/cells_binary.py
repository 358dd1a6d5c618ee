"""Read catalogues in Parquet and in FITS, a thousand rows at a time."""

from collections.abc import Iterator
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
from peculiar.predict.cells import Cells, Read, decoded, number_of, our_columns, refuse_damage
from peculiar.predict.cells_votable import units_of_votable

TABLES = (fits.BinTableHDU, fits.TableHDU)
AT_ONCE = 1024
BY_ASTROPY, BY_TOPCAT = b"table_meta_yaml", b"IVOA.VOTable-Parquet.content"


def read_parquet(path: Path) -> Read:
    """Parquet, with units as this package, astropy or TOPCAT writes them."""
    with refuse_damage(path):
        file = pq.ParquetFile(path, page_checksum_verification=True)
        names = our_columns(path, file.schema_arrow.names)
        units = _parquet_units(file.schema_arrow)
        masks = {*file.schema_arrow.names} & {f"{column}.mask" for column in names.values()}

    def rows() -> Iterator[Cells]:
        with refuse_damage(path), file:
            wanted = [*names.values(), *sorted(masks)]
            for batch in file.iter_batches(AT_ONCE, columns=wanted, use_threads=False):
                values = [_unmasked(batch, column) for column in names.values()]
                for cells in zip(*values, strict=True):
                    yield dict(zip(names, cells, strict=True))

    return units, rows()


def _parquet_units(schema: pa.Schema) -> dict[str, str]:
    units = {
        field.name: (field.metadata or {}).get(b"unit", b"").decode(errors="replace")
        for field in schema
    }
    about = schema.metadata or {}
    if BY_ASTROPY in about:
        for column in get_header_from_yaml(about[BY_ASTROPY].decode().split("\n"))["datatype"]:
            units[column["name"]] = str(column.get("unit") or "")
    elif BY_TOPCAT in about:
        units |= units_of_votable(about[BY_TOPCAT])
    return {name.strip().lower(): unit for name, unit in units.items()}


def _unmasked(batch: pa.RecordBatch, column: str) -> list[Any]:
    """Cells of a column; None where they are null, or astropy wrote that they are masked."""
    cells = [decoded(cell) for cell in batch[column].to_pylist()]
    if f"{column}.mask" not in batch.schema.names:
        return cells
    masked = batch[f"{column}.mask"].to_pylist()
    return [cell if shown is False else None for cell, shown in zip(cells, masked, strict=True)]


def read_fits(path: Path) -> Read:
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
        places = {
            ours: all_names.index(name) for ours, name in our_columns(path, all_names).items()
        }
        units = {name: str(tables[0].columns[at].unit or "") for name, at in places.items()}

    def rows() -> Iterator[Cells]:
        with open_fits(path, memmap=True) as hdus, refuse_damage(path):
            table = next(hdu for hdu in hdus if isinstance(hdu, TABLES))
            for start in range(0, len(table.data), AT_ONCE):
                part = table.data[start : start + AT_ONCE]
                values = [_fits_cells(part, table.columns[at], at) for at in places.values()]
                for cells in zip(*values, strict=True):
                    yield dict(zip(places, cells, strict=True))

    return units, rows()


def _fits_cells(part: fits.FITS_rec, column: fits.Column, at: int) -> list[Any]:
    """Cells of a column; None where the file says, by TNULL or blanks, that there is nothing."""
    stored = part.view(np.ndarray)
    raw = stored[stored.dtype.names[at]]
    if raw.dtype.kind == "S" and raw.ndim == 1:
        texts = [decoded(cell.split(b"\0")[0].strip()) for cell in raw.tolist()]
        if "A" in str(column.format):
            return texts
        return [_scaled(text, column) for text in texts]
    values = part.field(at)
    hidden = [False] * len(part)
    if isinstance(column.null, int) and raw.dtype.kind in "iu" and raw.ndim == 1:
        # astropy writes the null of unsigned numbers without the offset of those that it stores
        hidden = ((raw == column.null) | (np.asarray(values) == column.null)).tolist()
    return [None if out else cell for cell, out in zip(values.tolist(), hidden, strict=True)]


def _scaled(text: str, column: fits.Column) -> Any:
    """A number in a table of text, which astropy reads as 0 where it is missing."""
    if not text or text == str(column.null).strip():
        return None
    scale, zero = column.bscale or 1, column.bzero or 0
    value = number_of(text.upper().replace("D", "E"))
    if value is None or (scale, zero) == (1, 0) or not isfinite(value):
        return text.upper().replace("D", "E")
    return value * scale + zero
