"""Show what is being done, in phases that may take long."""

from typing import Any

from tqdm import tqdm

SILENT_S = 2  # what takes less is not shown


def progress_bar(doing: str, total: int, unit: str = "image") -> "tqdm[Any]":
    """A bar that appears after `SILENT_S` and goes when it is done; none if `doing` is empty."""
    return tqdm(
        desc=doing,
        total=total,
        unit=unit,
        unit_scale=unit == "B",
        delay=SILENT_S,
        leave=False,
        disable=not doing,
    )
