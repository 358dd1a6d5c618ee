"""What an interrupted `fetch` has written, for the next one that would write the same.

It is kept beside the output, whose folder DVC empties before it runs the stage: complete shards,
and for each its rows of the galaxy table and the state of the files that they were read from.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from peculiar.core.errors import InputError
from peculiar.core.files import alone, json_sha256, replace_folder, write_atomically
from peculiar.core.shard import FLOAT32, Shard

KEY = "key"

Row = dict[str, Any]  # of the galaxy table, in plain values
State = list[str | int]


def state(path: Path) -> State:
    """Name, size and times of a file: another content has another state, even of the same size.

    Ask for it before you read the file.
    """
    found = path.stat()
    return [str(path), found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def plain(row: Mapping[str, Any]) -> Row:
    """A row with lists in place of arrays, as JSON would give it back."""
    return {
        name: value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        for name, value in row.items()
    }


@dataclass(frozen=True)
class Begun:
    """Shards that are complete, and room for the next.

    Attributes
    ----------
    folder : Path
        What is kept until the output is complete.
    states : sequence of State
        State of the file of each galaxy; none where galaxies come from no files.
    total, per_shard : int
        Number of galaxies, in all and in each shard.
    """

    folder: Path
    states: Sequence[State]
    total: int
    per_shard: int

    @property
    def images(self) -> Path:
        """The future output."""
        return self.folder / "images"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a galaxy's images, of the first shard."""
        return Shard.of(self._shard(0)).shape[1:]

    def note(self, rows: Sequence[Row]) -> None:
        """Note that the shard that ends with the last of all `rows` so far is complete."""
        start = (len(rows) - 1) // self.per_shard * self.per_shard
        record = {"files": self._files(start), "rows": rows[start:]}
        write_atomically(self._record(start), json.dumps(record).encode())

    def rows(self) -> list[Row]:
        """Rows of all shards, from the first, that are complete and of the present files."""
        rows: list[Row] = []
        while len(rows) < self.total and (more := self._noted(len(rows))):
            rows += more
        return rows

    def leave_only(self, rows: Sequence[Row]) -> None:
        """Remove all files but the shards of these rows."""
        complete = {self._shard(start).name for start in range(0, len(rows), self.per_shard)}
        for path in self.images.iterdir():
            if path.name not in complete:
                path.unlink()

    def _noted(self, start: int) -> list[Row]:
        """Rows of the shard that begins with galaxy `start`; empty if it is not complete."""
        try:
            record = json.loads(self._record(start).read_bytes())
            rows = [dict(row) for row in record["rows"]]
            of_these = record["files"] == self._files(start)
            if len(rows) != min(self.per_shard, self.total - start) or not of_these:
                return []
            digests = digests_of(self._shard(start))
        except (OSError, ValueError, KeyError, TypeError, InputError):
            return []  # killed while it was written, or damaged since
        return rows if digests == [row.get("sha256") for row in rows] else []

    def _files(self, start: int) -> list[State]:
        return list(self.states[start : start + self.per_shard])

    def _record(self, start: int) -> Path:
        return self.folder / f"rows-{start // self.per_shard:03d}.json"

    def _shard(self, start: int) -> Path:
        return self.images / f"images-{start // self.per_shard:03d}.npy"


def digests_of(path: Path) -> list[str]:
    """sha256 of each item of a shard."""
    shard = Shard.of(path)
    item, size = np.empty(shard.shape[1:], FLOAT32), prod(shard.shape[1:])
    digests = []
    for number in range(shard.shape[0]):
        shard.read([(item, number * size)])
        digests.append(hashlib.sha256(item.data).hexdigest())
    return digests


@contextmanager
def begun(
    folder: Path, decided_by: Any, states: Sequence[State], total: int, per_shard: int
) -> Iterator[Begun]:
    """Go on with what an interrupted run has begun, and replace `folder` when the block ends.

    Parameters
    ----------
    folder : Path
        Output, which is replaced completely or not at all.
    decided_by : JSON values
        All but the files that decides the output. What was begun with others is removed.
    states : sequence of State
        State of the file of each galaxy; none where galaxies come from no files.
    total, per_shard : int
        Number of galaxies, in all and in each shard.

    Yields
    ------
    Begun
        Its `images` become `folder`. They are kept when the block fails after a complete shard.

    Raises
    ------
    InputError
        When another process writes the same output.
    """
    kept = folder.with_name(f".{folder.name}.begun.partial")
    key = json_sha256(decided_by)
    with alone(folder):
        if kept.exists() and not _has_key(kept, key):
            print(f"{folder}: begun with other parameters or code: what was done is removed")
            shutil.rmtree(kept)
        work = Begun(kept, states, total, per_shard)
        work.images.mkdir(parents=True, exist_ok=True)
        (kept / KEY).write_text(key)
        try:
            yield work
            with replace_folder(folder) as partial:
                work.images.replace(partial)
            shutil.rmtree(kept)
        finally:
            if not any(kept.glob("rows-*.json")):
                shutil.rmtree(kept, ignore_errors=True)


def _has_key(kept: Path, key: str) -> bool:
    try:
        return (kept / KEY).read_text() == key
    except (OSError, ValueError):
        return False
