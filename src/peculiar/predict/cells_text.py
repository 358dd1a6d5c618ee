"""Read catalogues of text: CSV, with any of four separators, and ECSV; plain or gzipped."""

import codecs
import csv
import gzip
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa  # type: ignore[import-untyped]
from astropy.table.meta import get_header_from_yaml

from peculiar.core.errors import InputError
from peculiar.predict.cells import (
    COLUMNS,
    Cells,
    Choose,
    Field,
    Read,
    our_columns,
    refuse_damage,
)

GZIP = b"\x1f\x8b"
ENCODINGS = {  # UTF-32 first, whose mark begins like that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
SEPARATORS = ",;\t|"
LONGEST_LINE = 1 << 20  # letters; a file without line ends must not fill the memory
ECSV = "%ECSV"


def read_text(path: Path, choose: Choose = our_columns, wanted: Sequence[str] = COLUMNS) -> Read:
    """CSV, or ECSV, which is CSV below a header of comments.

    Parameters
    ----------
    path : Path
        Existing file.
    choose : callable
        Which columns to read.
    wanted : sequence of str
        Columns, of which the header must have some; by them the separator is recognised.
    """
    with refuse_damage(path), open_text(path) as stream:
        comments, header = [], ""
        for header in lines_of(path, stream):
            if not header.startswith("#"):
                break
            comments.append(header[1:].removeprefix(" ").rstrip())
    if comments and comments[0].startswith(ECSV):
        separator, described = _described(path, comments, header)
    else:
        separator, described = _separator(header, wanted), {}
        _check_no_header_above(path, comments, header, wanted)
    names = _cells(header, separator)
    columns = choose(path, names)
    places = {name: names.index(column) for name, column in columns.items()}
    fields = {name: described.get(column, Field()) for name, column in columns.items()}
    masks = {
        name: names.index(f"{column}.mask")
        for name, column in columns.items()
        if f"{column}.mask" in names
    }

    def row(cells: list[str], line: int) -> Cells:
        if len(cells) != len(names):
            return f"line {line} has {len(cells)} cells, but the header has {len(names)}"
        hidden = {name for name, at in masks.items() if cells[at].strip().lower() != "false"}
        return {name: None if name in hidden else cells[at] for name, at in places.items()}

    def rows() -> Iterator[Cells]:
        with refuse_damage(path), open_text(path) as stream:
            below: Iterator[str] = islice(lines_of(path, stream), len(comments) + 1, None)
            if separator == " ":
                below = (line.rstrip() for line in below)
            reader = _reader(below, separator)
            try:
                for cells in reader:
                    if cells:  # no empty line
                        yield row(cells, len(comments) + 1 + reader.line_num)
            except csv.Error as error:
                line = len(comments) + 1 + reader.line_num
                raise InputError(
                    f"{path} is no CSV at line {line} ({error}): write it again"
                ) from None

    return fields, rows()


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open a file of text, plain or gzipped, in UTF-8 or as its byte order mark says.

    Bytes that are not valid become escapes, such as a backslash and xff.
    """
    with path.open("rb") as file:
        zipped = file.read(len(GZIP)) == GZIP
        file.seek(0)
        content = gzip.GzipFile(fileobj=file) if zipped else file
        head = content.read(4)
        content.seek(0)
        encoding = next((e for mark, e in ENCODINGS.items() if head.startswith(mark)), "utf-8-sig")
        yield io.TextIOWrapper(content, encoding, errors="backslashreplace", newline="")


def lines_of(path: Path, stream: TextIO) -> Iterator[str]:
    """Lines of bounded length, or `InputError`."""
    number = 0
    while line := stream.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE:
            raise InputError(
                f"{path} has more than {LONGEST_LINE - 1} letters in line {number}: give a table "
                "of text"
            )
        yield line


def _reader(lines: Iterator[str], separator: str) -> Any:
    return csv.reader(lines, delimiter=separator, skipinitialspace=separator == " ", strict=True)


def _cells(line: str, separator: str) -> list[str]:
    try:
        return next(_reader(iter([line.rstrip()]), separator), [])
    except csv.Error:
        return []


def _named(line: str, separator: str, wanted: Sequence[str]) -> int:
    """How many of the wanted columns a header names."""
    return len({name.strip().lower() for name in _cells(line, separator)} & {*wanted})


def _separator(header: str, wanted: Sequence[str]) -> str:
    """The separator by which a header names most of the wanted columns."""
    return max(SEPARATORS, key=lambda separator: _named(header, separator, wanted))


def _check_no_header_above(
    path: Path, comments: list[str], header: str, wanted: Sequence[str]
) -> None:
    """Refuse a header that is a comment; the first row would be taken for it."""
    there = _named(header, _separator(header, wanted), wanted)
    for number, comment in enumerate(comments, start=1):
        if _named(comment, _separator(comment, wanted), wanted) > max(1, there):
            raise InputError(f"{path} has its header in a comment, line {number}: remove the #")


def _described(path: Path, comments: list[str], header: str) -> tuple[str, dict[str, Field]]:
    """Separator and columns of an ECSV file, after a check that its two headers agree."""
    try:
        described = get_header_from_yaml(comments[1:])
        separator = described.get("delimiter", " ")
        fields = {column["name"]: _field(column) for column in described["datatype"]}
        named = [column["name"] for column in described["datatype"]]
        names = _cells(header, separator)
    except Exception as error:  # astropy and PyYAML raise many kinds on a damaged header
        raise InputError(f"{path} has a damaged header ({type(error).__name__})") from None
    if named != names:
        raise InputError(
            f"{path} describes other columns than its table has: make the names above and in the "
            "header line the same"
        )
    return separator, fields


def _field(column: Mapping[str, Any]) -> Field:
    """A column by ECSV's header; numbers are seen by the cells."""
    text = str(column["datatype"]) == "string"
    return Field(
        str(column.get("unit") or ""),
        str(column.get("description") or ""),
        pa.string() if text else None,
    )
