"""Read and write the shards of a set of images: .npy files of float32, open only while in use.

Items are read, not mapped: a set may have any number of shards whatever the limit of open files,
what was read does not count as memory of the process, and a file cut short is an error, not SIGBUS.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from math import prod
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from peculiar.core.errors import InputError

FLOAT32 = np.dtype("<f4")
Part = tuple[NDArray[np.float32], int]  # an array to fill, and the first number that goes into it


@dataclass(frozen=True)
class Shard:
    """A file whose header was read.

    Attributes
    ----------
    path : Path
        The file.
    offset : int
        Where its numbers begin, bytes.
    shape : tuple of int
        Of its numbers, float32 in C order.
    version : tuple of int
        Tells this file from another of the same name.
    """

    path: Path
    offset: int
    shape: tuple[int, ...]
    version: tuple[int, ...]

    @classmethod
    def of(cls, path: Path) -> Self:
        """Read the header of a file.

        Raises
        ------
        ValueError
            When the file is damaged.
        """
        with path.open("rb") as file:
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError(f"{path.name} has a header of another version")
            shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
            if dtype != FLOAT32 or by_columns or not shape:
                raise ValueError(f"{path.name} does not hold float32 in C order")
            end = file.tell() + prod(shape) * FLOAT32.itemsize
            missing = end - os.fstat(file.fileno()).st_size
            if missing > 0:
                raise ValueError(f"{path.name} lacks its last {missing} bytes")
            return cls(path, file.tell(), shape, _version(file))

    def read(self, parts: Iterable[Part]) -> None:
        """Fill arrays, each C contiguous, from consecutive numbers of the file.

        Raises
        ------
        InputError
            When it is no longer the file whose header was read.
        """
        with self._opened() as file:
            for out, first in parts:
                file.seek(self.offset + first * FLOAT32.itemsize)
                if file.readinto(out.reshape(-1).view(np.uint8).data) != out.nbytes:
                    raise self._replaced()

    @contextmanager
    def _opened(self) -> Iterator[FileIO]:
        try:
            file = self.path.open("rb", buffering=0)
        except FileNotFoundError:
            raise self._replaced() from None
        with file:
            if _version(file) != self.version:
                raise self._replaced()
            yield file

    def _replaced(self) -> InputError:
        return InputError(
            f"{self.path} was replaced while it was being read: run the same command again"
        )


def _version(file: BinaryIO | FileIO) -> tuple[int, ...]:
    found = os.fstat(file.fileno())
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


class ShardWriter:
    """Write float32 arrays of one shape into shards of `per_shard` arrays.

    Writes are sequential, not through memory maps, so a full disk raises `OSError`, not SIGBUS.

    Parameters
    ----------
    folder : Path
        Existing folder, which receives `images-000.npy`, `images-001.npy`, ...
    total : int
        Number of items that will be appended.
    per_shard : int
        Items in each shard; the last may have fewer.
    written : int
        Items in shards that are complete already: a multiple of `per_shard`, or `total`.

    Raises
    ------
    ValueError
        On leaving the `with` block, when fewer than `total` items were appended.
    """

    def __init__(self, folder: Path, total: int, per_shard: int, written: int = 0) -> None:
        self.folder, self.total, self.per_shard = folder, total, per_shard
        self.written = written
        self._shape: tuple[int, ...] = ()
        self._file: BinaryIO | None = None

    def append(self, item: NDArray[np.float32]) -> None:
        """Append one item, (...), float32.

        Raises
        ------
        ValueError
            When more than `total` items are appended, or items of different shapes.
        """
        if self.written == self.total:
            raise ValueError(f"{self.folder} was announced with {self.total} items")
        self._shape = self._shape or item.shape
        if item.shape != self._shape:
            raise ValueError(f"{self.folder} holds items of shape {self._shape}, not {item.shape}")
        if self.written % self.per_shard == 0:
            self._next_shard()
        assert self._file is not None
        self._file.write(np.ascontiguousarray(item, dtype=FLOAT32).data)
        self.written += 1
        if self.shard_complete:
            self._close()

    @property
    def shard_complete(self) -> bool:
        """Whether the last item was the last of its shard, whose file is then closed."""
        return self.written % self.per_shard == 0 or self.written == self.total

    def _next_shard(self) -> None:
        path = self.folder / f"images-{self.written // self.per_shard:03d}.npy"
        items = min(self.per_shard, self.total - self.written)
        self._file = path.open("wb")
        header = {"descr": FLOAT32.str, "fortran_order": False, "shape": (items, *self._shape)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._close()
        if kind is None and self.written != self.total:
            raise ValueError(f"{self.folder} has {self.written} of {self.total} items")
