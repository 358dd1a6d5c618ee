"""The reader of each format of catalogues, by a file's ending."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

from peculiar.core.errors import InputError
from peculiar.galaxies.fits import ENDINGS
from peculiar.predict.cells import COLUMNS, Choose, Read, our_columns
from peculiar.predict.cells_binary import read_fits, read_parquet
from peculiar.predict.cells_ipac import read_ipac
from peculiar.predict.cells_text import read_text
from peculiar.predict.cells_votable import read_votable

READERS: Mapping[str, Callable[[Path, Choose], Read]] = {
    ".csv": read_text,
    ".tsv": read_text,
    ".ecsv": read_text,
    ".parquet": read_parquet,
    **dict.fromkeys(ENDINGS, read_fits),
    ".vot": read_votable,
    ".votable": read_votable,
    ".xml": read_votable,
    ".ipac": read_ipac,
    ".tbl": read_ipac,
}
# tables that people have, but in formats that are not read
OTHERS = (
    *(".txt", ".dat", ".asc", ".xls", ".xlsx", ".ods", ".json", ".jsonl", ".feather", ".arrow"),
    *(".h5", ".hdf5", ".asdf", ".pkl", ".npy", ".npz", ".sav", ".mat", ".zip", ".tar", ".sqlite"),
)


def ending(path: Path) -> str:
    """Ending of a file's name in lower case, before .gz if it has that."""
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def read_cells(
    path: Path,
    choose: Choose | None = None,
    columns: Mapping[str, str] = MappingProxyType({}),
) -> Read:
    """Open a catalogue, in the format of its ending, and read its rows one by one.

    Parameters
    ----------
    path : Path
        Existing file.
    choose : callable, optional
        Which columns to read; by default ours.
    columns : mapping of str to str
        The file's name of columns that it calls otherwise, by ours.

    Returns
    -------
    mapping of str to Field, iterator of dict or str
        What the file says of the columns, and the cells of each row by column, or why the row
        cannot be read.

    Raises
    ------
    InputError
        When the format is not known, the file cannot be read, lacks a column or has one twice;
        also while rows are read.
    """
    reader = READERS.get(ending(path))
    if reader is None:
        raise InputError(f"{path}: unsupported extension: give a catalogue as {', '.join(READERS)}")
    choose = choose or partial(our_columns, columns_given=columns)
    if reader is read_text:  # the separator is the one by which the header names our columns
        known = (name.strip().lower() for name in columns.values())
        return read_text(path, choose, (*COLUMNS, *known))
    return reader(path, choose)
