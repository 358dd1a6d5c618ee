"""Write files and folders wholly or not at all, and digests of their contents."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Write a folder wholly or not at all.

    Yields a sibling to write into, which takes the folder's place at the end. A failure, or a
    process killed half-way, leaves what was there before.
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
def whole_file(path: Path) -> Iterator[Path]:
    """Write a file wholly or not at all: yields a sibling that takes its place at the end."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all, whatever happens.

    Parameters
    ----------
    path : Path
        File to write or to replace.
    content : bytes
        What it is to hold.
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


def files_sha256(folder: Path, leave_out: str) -> str:
    """sha256 over the names and contents of all files of a folder but those of one name."""
    total = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        if file.name != leave_out:
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            total.update(f"{content}  {file.relative_to(folder).as_posix()}\n".encode())
    return total.hexdigest()
