"""Read and validate a section of `params.yaml`.

Each stage has one section, a frozen model in the `params.py` of the package it configures. Every
key is required and no other is accepted, so that each value has one home: the file, where its
meaning and unit stand beside it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from peculiar.core.errors import InputError

PARAMS = Path("params.yaml")
DEFAULTS = Path(__file__).parents[1] / "params.yaml"  # a link to the repository's; a file in wheels
STAGES = ("fetch", "observe", "search", "train", "evaluate", "promote")

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]


class Section(BaseModel):
    """Base of every section: frozen, nothing unknown, nothing infinite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


S = TypeVar("S", bound=Section)


def params_or_defaults() -> Path:
    """The working folder's `params.yaml` if it has one, else the file that the package ships.

    For commands that run anywhere; the stages of the pipeline need a file of their own.
    """
    return PARAMS if PARAMS.exists() else DEFAULTS


def load(section: type[S], path: Path = PARAMS) -> S:
    """Read the section of one stage.

    Parameters
    ----------
    section : type
        `Fetch`, `Observe`, `Search`, `Train`, `Evaluate` or `Promote`.
    path : Path
        The YAML file.

    Returns
    -------
    Section
        An instance of `section`.

    Raises
    ------
    InputError
        When the file is missing or no YAML, or a key is unknown, missing or out of range; the
        message names the first such key.
    """
    try:
        whole = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run from the top of the repository") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is no valid YAML: {reason}") from None
    if not isinstance(whole, dict):
        raise InputError(f"{path} must hold the sections {', '.join(STAGES)}")
    unknown = sorted(set(whole) - set(STAGES))
    if unknown:
        raise InputError(f"{path}: unknown section {unknown[0]!r}; take {', '.join(STAGES)}")
    name = section.__name__.lower()
    if name not in whole:
        raise InputError(f"{path}: the section {name!r} is missing: add it")
    return validate(section, whole[name], f"{path}: {name}")


def validate(section: type[S], values: object, where: str) -> S:
    """Build a section from plain values; the first fault becomes one `InputError` sentence."""
    try:
        return section.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join([where, *_keys(first["loc"], values, first["type"] == "missing")])
        reason = {
            "extra_forbidden": "unknown key: remove it or correct its name",
            "missing": "key is missing: add it",
        }.get(first["type"], first["msg"].removeprefix("Value error, "))
        raise InputError(f"{key}: {reason}") from None


def _keys(location: tuple[int | str, ...], values: Any, missing: bool) -> list[str]:
    """The part of pydantic's location that stands in the file: without the tags of unions."""
    keys = []
    for part in location:
        try:
            values = values[part]
        except (LookupError, TypeError):
            continue
        keys.append(str(part))
    return [*keys, str(location[-1])] if missing else keys


def check_known(kind: str, names: tuple[str, ...], known: Mapping[str, object]) -> None:
    """`ValueError` for a name that is not known, or stands twice."""
    for name in names:
        if name not in known:
            raise ValueError(f"no {kind} is called {name!r}; known are {', '.join(known)}")
    if len(set(names)) < len(names):
        raise ValueError(f"a {kind} stands twice in {list(names)}")
