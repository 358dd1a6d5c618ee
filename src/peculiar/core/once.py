"""Keep what takes long to compute, for later processes that would compute the same."""

import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from peculiar.core.files import json_sha256

FOLDER = Path(".peculiar")  # below the root of a repository, and ignored by git


def remembered(path: Path, key: Any, make: Callable[[], Any]) -> Any:
    """Return the value that was kept under this key, or make and keep it.

    Parameters
    ----------
    path : Path
        File for one value, the last. Where it cannot be written, nothing is kept.
    key : JSON values
        All that decides the value.
    make : callable
        Makes the value, of JSON values.

    Returns
    -------
    JSON values
        Those of `make`; a damaged file counts as none.
    """
    digest = json_sha256(key)
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(path.read_bytes())
        if kept["key"] == digest and kept["sha256"] == json_sha256(kept["value"]):
            return kept["value"]
    value = make()
    with suppress(OSError):
        _write(path, {"key": digest, "value": value, "sha256": json_sha256(value)})
    return value


def _write(path: Path, kept: Any) -> None:
    """Write a file that other processes may write at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(kept, file)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink()
        raise
