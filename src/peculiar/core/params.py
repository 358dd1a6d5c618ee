"""Read and validate a section of `params.yaml`.

Each stage has one section: a frozen model in the `params.py` of the package it configures. Every
key is required, and unknown keys are refused, so each value is set in one place: the file, where
a comment gives its meaning and unit.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from peculiar.core.errors import InputError

PARAMS = Path("params.yaml")
DEFAULTS = Path(__file__).parents[1] / "params.yaml"  # a link to the repository's; a file in wheels
STAGES = ("fetch", "observe", "search", "train", "evaluate", "nulls", "promote")

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]
# DATASET-NETWORK names a trained network; a network has no hyphen, so the last one divides
DatasetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+(-[A-Za-z0-9_]+)*$")]


class Section(BaseModel):
    """Base of every section: frozen; refuses unknown keys, NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


S = TypeVar("S", bound=Section)


def params_or_defaults() -> Path:
    """`params.yaml` of the working folder if it has one, else the file in the package.

    For commands that run in any folder; the stages of the pipeline require their own file.
    """
    return PARAMS if PARAMS.exists() else DEFAULTS


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key stands once; PyYAML silently takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for key, _ in node.value:
            if keys.count(key.value) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands twice", key.start_mark
                )
        return super().construct_mapping(node, deep)


def load(section: type[S], path: Path = PARAMS) -> S:
    """Read the section of one stage.

    Parameters
    ----------
    section : type
        `Fetch`, `Observe`, `Search`, `Train`, `Evaluate`, `Nulls` or `Promote`.
    path : Path
        The YAML file.

    Returns
    -------
    Section
        An instance of `section`.

    Raises
    ------
    InputError
        When the file is missing or not YAML, or a key is unknown, missing or out of range; the
        message names the first such key.
    """
    try:
        sections = yaml.load(path.read_text(), _UniqueKeys)
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run from the top of the repository") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is not valid YAML: {reason}") from None
    if not isinstance(sections, dict):
        raise InputError(f"{path} must hold the sections {', '.join(STAGES)}")
    unknown = sorted(set(sections) - set(STAGES))
    if unknown:
        raise InputError(f"{path}: unknown section {unknown[0]!r}; take {', '.join(STAGES)}")
    name = section.__name__.lower()
    if name not in sections:
        raise InputError(f"{path}: the section {name!r} is missing: add it")
    return validate(section, sections[name], f"{path}: {name}")


def validate(section: type[S], values: object, where: str) -> S:
    """Build a section from plain values.

    Parameters
    ----------
    section : type
        Subclass of `Section`.
    values : object
        Mapping of keys to values, as read from a file.
    where : str
        Name of the file and section, which begins the error message.

    Returns
    -------
    Section
        An instance of `section`.

    Raises
    ------
    InputError
        When a value is not valid; the message names the first such key.
    """
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


def validate_json(section: type[S], text: str, where: str, again: str) -> S:
    """Build a section from JSON that may come from anyone.

    Parameters
    ----------
    section : type
        Subclass of `Section`.
    text : str
        The JSON.
    where : str
        Name of the file, which begins the error message.
    again : str
        What to do, which ends it.

    Returns
    -------
    Section
        An instance of `section`.

    Raises
    ------
    InputError
        When the text is not JSON, or a value is not valid; the message names the first such key.
    """
    try:
        return validate(section, json.loads(text), where)
    except (ValueError, RecursionError):
        raise InputError(f"{where}: not valid JSON: {again}") from None
    except InputError as error:
        raise InputError(f"{error}: {again}") from None


def _keys(location: tuple[int | str, ...], values: Any, missing: bool) -> list[str]:
    """Keys of pydantic's location that are in the file, which excludes the tags of unions."""
    keys = []
    for part in location:
        try:
            values = values[part]
        except (LookupError, TypeError):
            continue
        keys.append(str(part))
    return [*keys, str(location[-1])] if missing else keys


def check_known(kind: str, names: tuple[str, ...], known: Mapping[str, object]) -> None:
    """Raise `ValueError` for a name that is not known or is repeated."""
    for name in names:
        if name not in known:
            raise ValueError(f"no {kind} is called {name!r}: take one of {', '.join(known)}")
    if len(set(names)) < len(names):
        raise ValueError(f"a {kind} is repeated in {list(names)}: name each once")
