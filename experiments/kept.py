"""Results of trainings that are kept, so that the same command resumes."""

import json
from pathlib import Path
from typing import Any

from peculiar.core.errors import InputError
from peculiar.core.files import json_sha256


def identity_of(*parts: Any) -> str:
    """Digest of all that decides a result, JSON values, for `read_kept`."""
    return json_sha256(parts)


def read_kept(path: Path, identity: str) -> dict[str, Any] | None:
    """Read a result that was kept in a JSON file; None if there is none.

    Raises
    ------
    InputError
        When its `identity` is another: of other parameters, data or code.
    """
    if not path.exists():
        return None
    kept: dict[str, Any] = json.loads(path.read_text())
    if kept["identity"] != identity:
        raise InputError(
            f"{path} was made with other parameters, data or code: take another folder, or "
            f"remove {path.parent}"
        )
    return kept
