"""Read the description of a network from the tags of its registered version, and check it."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, PositiveFloat

from peculiar.core.errors import InputError
from peculiar.core.params import Section, validate
from peculiar.core.survey import Survey
from peculiar.runs.blueprint import Blueprint
from peculiar.runs.validity import Validity

SURVEY = "survey"
JSON = (SURVEY, "grid_mpc", "validity")  # empty for None
AGAIN = "restore MLflow's database, or promote or import the version again"


class Description(Section):
    """Tags of a version that predictions rest on.

    Attributes
    ----------
    survey : Survey
        Properties of its training images.
    sigma_D_mpc : float
        Error of its distances on the validation split, Mpc.
    grid_mpc : tuple of float or None
        Distances of p(D | image), Mpc; None for a point head.
    validity : Validity or None
        Ranges of its training images.
    model_sha256 : str
        Digest of its files.
    """

    survey: Survey
    sigma_D_mpc: PositiveFloat
    grid_mpc: tuple[float, ...] | None
    validity: Validity | None
    model_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def description_of(tags: Mapping[str, str], where: str) -> Description:
    """Read the description of a registered version.

    Parameters
    ----------
    tags : mapping of str to str
        Tags of the version.
    where : str
        Name of the version, for messages.

    Returns
    -------
    Description

    Raises
    ------
    InputError
        When a tag is missing, damaged or out of range; the message names the first such value.
    """
    values: dict[str, Any] = {key: tags[key] for key in Description.model_fields if key in tags}
    for key in JSON:
        if key in values:
            values[key] = _parsed(values[key], f"{where}: tag {key}")
    try:
        return validate(Description, values, f"{where}: tag")
    except InputError as error:
        raise InputError(f"{error}: {AGAIN}") from None


def check_agrees(description: Description, blueprint: Blueprint, where: str) -> None:
    """Check that tags describe the network that is stored.

    Raises
    ------
    InputError
        When a value is not that of the network; the message names the first one.
    """
    described = description.model_dump(mode="json", exclude={"model_sha256"})
    stored = blueprint.model_dump(mode="json", include=set(described))
    for key, value in described.items():
        if (told := _first_difference(value, stored[key], key)) is not None:
            raise InputError(f"{where}: tag {told}: {AGAIN}")


def _first_difference(tag: Any, stored: Any, key: str) -> str | None:
    """The first value of a tag that is not the stored one, in words."""
    if tag == stored:
        return None
    if isinstance(tag, dict) and isinstance(stored, dict) and tag.keys() == stored.keys():
        differences = (_first_difference(tag[k], stored[k], f"{key}.{k}") for k in tag)
        return next(told for told in differences if told is not None)
    return f"{key} is {_short(tag)}, and its network was trained with {_short(stored)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        raise InputError(f"{where} is not valid JSON: {AGAIN}") from None
