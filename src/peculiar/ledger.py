"""Small files that outlive processes: written whole or not at all; the list of what was skipped."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from peculiar.errors import InputError


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


def write_ledger(path: Path, snapshot: str, skipped: Mapping[int, str]) -> None:
    """Write which subhaloes of a snapshot were skipped, and why.

    Parameters
    ----------
    path : Path
        JSON file to write or to replace.
    snapshot : str
        Simulation and snapshot that the numbers are of.
    skipped : mapping of int to str
        Reason by subhalo number.
    """
    reasons = {str(number): skipped[number] for number in sorted(skipped)}
    content = {"snapshot": snapshot, "skipped": reasons}
    write_whole(path, json.dumps(content, indent=1).encode())


def read_ledger(path: Path, snapshot: str) -> dict[int, str]:
    """Read which subhaloes were skipped; a missing file is begun.

    Parameters
    ----------
    path : Path
        File of `write_ledger`.
    snapshot : str
        Simulation and snapshot that it must be of.

    Returns
    -------
    dict of int to str
        Reason by subhalo number.

    Raises
    ------
    InputError
        When it is damaged, or of another snapshot.
    """
    if not path.exists():
        write_ledger(path, snapshot, {})
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = content["snapshot"]
        skipped = {int(number): str(reason) for number, reason in content["skipped"].items()}
    except (ValueError, LookupError, TypeError, AttributeError):
        raise InputError(
            f"{path} is damaged: delete it, and what it lists is asked for again"
        ) from None
    if found != snapshot:
        raise InputError(
            f"fetch.illustris.folder: {path.parent} holds {found}: take another folder for "
            f"{snapshot}"
        )
    return skipped
