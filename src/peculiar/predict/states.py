"""In what state images are, so that those replaced meanwhile are read and predicted again."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from peculiar.core.dataset import TABLE


def state_of_files(paths: Sequence[Path | None]) -> str:
    """Sizes and times of files; they differ when one is replaced or changed.

    The time of the last change of a file's entry cannot be set, so that this holds for copies that
    keep their times too.
    """
    total = sha256()
    for path in paths:
        try:
            found = None if path is None else path.stat()
        except (OSError, ValueError):  # a name that no file can have
            found = None
        about = found and (found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        total.update(f"{path} {about}\n".encode(errors="surrogateescape"))
    return total.hexdigest()


def state_of_set(folder: Path) -> str:
    """What differs when a shard of a dataset, or its table, has been replaced."""
    return state_of_files([folder / TABLE, *sorted(folder.glob("images-*.npy"))])
