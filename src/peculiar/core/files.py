"""Write files and folders completely or not at all, and compute digests of their contents."""

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from peculiar.core.errors import InputError


@contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """Replace a folder completely or not at all.

    Yields a new sibling folder to write into, which takes the place of `folder` when the block
    ends. A failed or killed block leaves the old folder unchanged.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Replace a file completely or not at all.

    Yields the path of a sibling to write, which takes the place of `path` when the block ends.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file completely or not at all, even when the machine stops.

    Parameters
    ----------
    path : Path
        File to write or replace.
    content : bytes
        New content.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def files_sha256(folder: Path) -> str:
    """sha256 over the names and contents of all files below a folder."""
    total = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        total.update(f"{content}  {file.relative_to(folder).as_posix()}\n".encode())
    return total.hexdigest()


def check_output(output: Path, endings: Sequence[str], option: str = "--output") -> None:
    """Refuse an extension that has no format, and a folder that is missing."""
    if output.suffix not in endings:
        raise InputError(f"{option} {output}: unsupported extension: use {' or '.join(endings)}")
    if not output.parent.is_dir():
        raise InputError(f"{option} {output}: make the folder {output.parent} first")
