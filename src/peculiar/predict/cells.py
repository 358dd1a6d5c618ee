"""Read the cells of a catalogue's columns from CSV, ECSV, Parquet or FITS."""

import csv
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from astropy.io import fits
from astropy.table.meta import get_header_from_yaml

from peculiar.core.errors import InputError
from peculiar.galaxies.fits import MANGLED, column_names, open_fits

NAMES = ("path", "id")
COLUMNS = (
    *NAMES,
    "cz_kms",
    "cz_error_kms",
    "cz_frame",
    "ra",
    "dec",
    "distance_mpc",
    "camera",
)
TABLES = (fits.BinTableHDU, fits.TableHDU)
Cells = dict[str, Any]
"""What one row has in each of the `COLUMNS` of its file, as the file has it."""
Read = tuple[Mapping[str, str], Iterator[Cells]]
"""Units by column, as text, and the rows."""


def read_cells(path: Path) -> Read:
    """Open a catalogue, in the format of its ending, and read its rows one by one.

    Parameters
    ----------
    path : Path
        Existing file.

    Returns
    -------
    mapping of str to str, iterator of dict
        Units of the columns that have one, and the cells of each row by `COLUMNS`.

    Raises
    ------
    InputError
        When the file cannot be read, lacks a column or has one twice; also while rows are read.
    """
    return READERS[".fits" if path.suffix == ".gz" else path.suffix](path)


def _check(path: Path, names: list[str]) -> dict[str, str]:
    """Our names of the file's columns, of any case; refuse a file that lacks one."""
    ours = [name for name in (name.strip().lower() for name in names) if name in COLUMNS]
    for name in ours:
        if ours.count(name) > 1:
            raise InputError(f"{path} has the column {name} more than once: keep one")
    columns = {name.strip().lower(): name for name in names}
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
    masks = {name: f"{column}.mask" for name, column in columns.items()}

    def rows() -> Iterator[Cells]:
        with path.open(**encoding) as stream:  # type: ignore[call-overload]
            below = islice(stream, len(comments) + 1, None)
            reader = csv.reader(below, delimiter=delimiter, skipinitialspace=delimiter == " ")
            try:
                for cells in reader:
                    if cells:  # no empty line
                        row = dict(zip(names, cells, strict=False))
                        yield {
                            name: None if row.get(masks[name]) == "True" else row.get(column)
                            for name, column in columns.items()
                        }
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
        masks = {*file.schema_arrow.names} & {f"{column}.mask" for column in names.values()}
        described = (file.schema_arrow.metadata or {}).get(b"table_meta_yaml")
        if described:  # as astropy writes it
            for column in get_header_from_yaml(described.decode().split("\n"))["datatype"]:
                units[column["name"].lower()] = column.get("unit") or ""
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from None

    def rows() -> Iterator[Cells]:
        try:
            with file:
                wanted = [*names.values(), *sorted(masks)]
                for batch in file.iter_batches(1024, columns=wanted, use_threads=False):
                    values = [_unmasked(batch, column) for column in names.values()]
                    for cells in zip(*values, strict=True):
                        yield dict(zip(names, cells, strict=True))
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path, error) from None

    return units, rows()


def _unmasked(batch: pa.RecordBatch, column: str) -> list[Any]:
    """Cells of a column; None where astropy wrote that they are masked."""
    cells = batch[column].to_pylist()
    if f"{column}.mask" not in batch.schema.names:
        return list(cells)
    masked = batch[f"{column}.mask"].to_pylist()
    return [None if hidden else cell for cell, hidden in zip(cells, masked, strict=True)]


def _read_fits(path: Path) -> Read:
    with open_fits(path, memmap=True) as hdus:
        tables = [hdu for hdu in hdus if isinstance(hdu, TABLES)]
        if not tables:
            raise InputError(f"{path} has no table: give a catalogue of galaxies")
        names = _check(path, column_names(path, tables[0]))
        units = {name: str(tables[0].columns[at].unit or "") for name, at in names.items()}
        null = {at: _null(tables[0].columns[at]) for at in names.values()}

    def rows() -> Iterator[Cells]:
        with open_fits(path, memmap=True) as hdus:
            table = next(hdu for hdu in hdus if isinstance(hdu, TABLES))
            try:
                for start in range(0, len(table.data), 1024):
                    part = table.data[start : start + 1024]
                    values = [
                        [None if cell == null[at] else cell for cell in part.field(at).tolist()]
                        for at in names.values()
                    ]
                    for cells in zip(*values, strict=True):
                        yield dict(zip(names, cells, strict=True))
            except MANGLED as error:
                raise _damaged(path, error) from None

    return units, rows()


def _null(column: fits.Column) -> float | None:
    """Number that stands for a masked cell (TNULL), scaled as the cells are; None for none."""
    if not isinstance(column.null, int):
        return None
    return float(column.null * (column.bscale or 1) + (column.bzero or 0))


def _damaged(path: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:200].rstrip(".")
    return InputError(f"{path} cannot be read ({reason}): write it again")


READERS: Mapping[str, Callable[[Path], Read]] = {
    ".csv": _read_text,
    ".ecsv": _read_text,
    ".parquet": _read_parquet,
    ".fits": _read_fits,
}
