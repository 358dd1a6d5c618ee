"""Read catalogues in VOTable.

Astropy reads the fields and the cells. Checked here, because it lets it pass: data that a STREAM
names by URL (it fetches them), rows of too few cells (it fills them up), numbers such as 5_012,
binary data that end in the middle of a row, and masks of text.
"""

import base64
import gzip
import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from astropy.io.votable import parse
from astropy.io.votable.converters import bitarray_to_bool
from numpy.typing import NDArray

from peculiar.core.errors import InputError
from peculiar.predict.cells import (
    INFINITE,
    MISSING,
    NOT_PASSED,
    NUMBER,
    Cells,
    Choose,
    Field,
    Read,
    decoded,
    our_columns,
    refuse_damage,
)
from peculiar.predict.cells_text import GZIP

NUMERIC = {"short", "int", "long", "unsignedByte", "float", "double"}
KINDS = {
    "boolean": pa.bool_(),
    "unsignedByte": pa.int16(),
    "short": pa.int16(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "char": pa.string(),
    "unicodeChar": pa.string(),
}
BINARY = ("BINARY", "BINARY2")
LARGEST = 1 << 30  # bytes, unzipped: more belongs in a format that is read in parts


def read_votable(path: Path, choose: Choose = our_columns) -> Read:
    """VOTable with one table, all data in the file."""
    with refuse_damage(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of astropy, on the ways of other software
        content = _content(path)
        seen = _scan(path, content)
        tables = list(parse(io.BytesIO(content)).iter_tables())
        if len(tables) != 1:
            raise InputError(f"{path} has {len(tables)} tables: give one with one table")
        fields = tables[0].fields
        names = [str(field.name) for field in fields]
        columns = choose(path, names)
        places = {name: names.index(column) for name, column in columns.items()}
        described = {name: _field(fields[at]) for name, at in places.items()}
        if seen.binary:
            table = list(_binary_rows(path, fields, seen))
            values = [[row[at] for row in table] for at in places.values()]
        else:
            values = [_cells(tables[0].array[fields[at].ID]) for at in places.values()]
        if seen.announced not in ("", str(len(values[0]))):
            raise InputError(
                f"{path} has {len(values[0])} rows, but announces {seen.announced}: write it again"
            )

    def rows() -> Iterator[Cells]:
        for cells in zip(*values, strict=True):
            yield dict(zip(columns, cells, strict=True))

    return described, rows()


def fields_of_votable(content: bytes) -> dict[str, Field]:
    """What a VOTable says of its columns, by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fields = next(parse(io.BytesIO(content)).iter_tables()).fields
    return {str(field.name): _field(field) for field in fields}


def _field(field: Any) -> Field:
    """A field of astropy's, with the type of its cells."""
    kind, size = KINDS.get(field.datatype, NOT_PASSED), str(field.arraysize or "1")
    if kind == pa.string():
        kind = NOT_PASSED if "x" in size else kind
    elif size != "1":
        kind = pa.list_(kind, int(size)) if size.isdecimal() and kind != NOT_PASSED else NOT_PASSED
    return Field(str(field.unit or ""), str(field.description or ""), kind)


def _cells(column: "np.ma.MaskedArray[Any, np.dtype[Any]]") -> list[Any]:
    if column.ndim > 1:
        return list(column.tolist())
    hidden: NDArray[np.bool_] = np.ma.getmaskarray(column)
    values = np.ma.getdata(column).tolist()
    return [
        None if np.all(out) else decoded(cell) for cell, out in zip(values, hidden, strict=True)
    ]


def _content(path: Path) -> bytes:
    """Bytes of a file, unzipped, if they are not too many."""
    with path.open("rb") as file:
        zipped = file.read(len(GZIP)) == GZIP
    with gzip.open(path) if zipped else path.open("rb") as stream:
        content = stream.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise InputError(f"{path} is larger than {LARGEST >> 20} MiB: write it as Parquet or FITS")
    return content


@dataclass
class _Scan:
    """What is seen of the elements while the XML is read."""

    kinds: list[str] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)
    inside: str = ""  # the element whose text is kept
    rows: int = 0
    announced: str = ""
    binary: str = ""
    stream: list[str] = field(default_factory=list)


def _scan(path: Path, content: bytes) -> _Scan:
    """Refuse XML that is damaged, and what astropy would read otherwise than it is written."""
    seen = _Scan()

    def start(name: str, attributes: dict[str, str]) -> None:
        tag = name.rpartition(":")[2]
        if tag == "STREAM":
            if "href" in attributes:
                raise InputError(f"{path} has its data in another file: write them into this one")
            seen.inside = tag
        elif tag == "TABLE":
            seen.kinds, seen.announced = [], attributes.get("nrows", "").strip()
        elif tag == "FIELD":
            scalar = attributes.get("arraysize", "1") == "1"
            seen.kinds.append(attributes.get("datatype", "") if scalar else "")
        elif tag == "TR":
            seen.cells = []
        elif tag == "TD":
            seen.inside = tag
            seen.cells.append("")
        elif tag in BINARY:
            seen.binary = tag

    def text(piece: str) -> None:
        if seen.inside == "TD":
            seen.cells[-1] += piece
        elif seen.inside == "STREAM":
            seen.stream.append(piece)

    def end(name: str) -> None:
        tag = name.rpartition(":")[2]
        if tag == seen.inside:
            seen.inside = ""
        elif tag == "TR":
            _check_row(path, seen)
            seen.rows += 1

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = text
    parser.Parse(content, True)
    return seen


def _check_row(path: Path, seen: _Scan) -> None:
    if len(seen.cells) != len(seen.kinds):
        raise InputError(
            f"{path} has {len(seen.cells)} cells in row {seen.rows}, but {len(seen.kinds)} fields: "
            "write it again"
        )
    for cell, kind in zip(seen.cells, seen.kinds, strict=True):
        plain = cell.strip().lower()
        known = plain in MISSING or plain in INFINITE or plain.startswith("0x")
        if kind in NUMERIC and not known and not NUMBER.fullmatch(plain):
            raise InputError(
                f"{path} has {cell[:40]!r} in row {seen.rows}, which is no number: correct it"
            )


def _binary_rows(path: Path, fields: Sequence[Any], seen: _Scan) -> Iterator[list[Any]]:
    """Rows of binary data; None where the mask, or the field's null, hides a cell."""
    data = io.BytesIO(base64.b64decode("".join(seen.stream)))

    def read(length: int) -> bytes:
        piece = data.read(length)
        if len(piece) < length:
            raise InputError(f"{path} ends in the middle of a row: write it again")
        return piece

    masked = seen.binary == "BINARY2"
    while data.tell() < len(data.getbuffer()):
        hidden = [False] * len(fields)
        if masked:
            hidden = list(bitarray_to_bool(read((len(fields) + 7) // 8), len(fields)))
        row = [field.converter.binparse(read) for field in fields]
        yield [
            None if out or np.all(null) else decoded(cell)
            for (cell, null), out in zip(row, hidden, strict=True)
        ]
