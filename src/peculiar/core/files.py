"""Write files and folders completely or not at all, and compute digests of their contents."""

import ctypes
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from peculiar.core.errors import InputError

LOCK_S = 0.2  # for another try where the lock was of a file that is gone
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of linux/fcntl.h and linux/fs.h


@contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """Replace a folder completely or not at all, even when the machine stops.

    Yields a new sibling folder to write into, which takes the place of `folder` when the block
    ends. A failed or killed block leaves the old folder unchanged, and at no moment is there none
    (on Linux; elsewhere it is beside its place for a moment, and the next call puts it back).

    Raises
    ------
    NotADirectoryError
        When a file is in its place.
    """
    folder = folder.resolve()  # the folder that a link names is replaced, and not the link
    partial, old = (folder.with_name(f".{folder.name}.{which}") for which in ("partial", "old"))
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    if old.exists() and not folder.exists():
        old.rename(folder)
    for left_by_a_kill in (partial, old):
        shutil.rmtree(left_by_a_kill, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        _sync_below(partial)
        if not folder.exists():
            partial.rename(folder)
        elif not _exchange(partial, folder):
            folder.rename(old)
            partial.rename(folder)
        sync(folder.parent)
    finally:
        for gone in (partial, old):
            shutil.rmtree(gone, ignore_errors=True)


@contextmanager
def alone(output: Path) -> Iterator[None]:
    """Keep other processes from writing the same folder or file meanwhile.

    Raises
    ------
    InputError
        When another process writes it.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    path = output.with_name(f".{output.name}.lock.partial")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=LOCK_S)
    except Timeout:
        raise InputError(
            f"another process writes {output}: wait until it has ended, and run the same command "
            "again"
        ) from None
    try:
        yield
    finally:
        # Removed while we hold it: who has opened it by now sees, once it has the lock, that the
        # file is gone (filelock does, from 3.20.4 on), and opens the next one.
        path.unlink(missing_ok=True)
        lock.release()


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; False where the system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(other))


def _sync_below(folder: Path) -> None:
    """Write a folder's files and their names through to the disk."""
    for path in folder.rglob("*"):
        if not path.is_symlink():
            sync(path)
    sync(folder)


def sync(path: Path) -> None:
    """Write a file, or the names in a folder, through to the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a filesystem that cannot do it for folders
            raise
    finally:
        os.close(number)


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Replace a file completely or not at all, even when the machine stops.

    Yields the path of a sibling to write, which takes the place of `path` when the block ends.
    """
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)  # left by a kill
    try:
        yield partial
        sync(partial)
        partial.replace(path)
        sync(path.parent)
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
    with replace_file(path) as partial:
        partial.write_bytes(content)


def json_sha256(value: Any) -> str:
    """sha256 of JSON values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


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
