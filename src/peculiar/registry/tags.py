"""Read the survey of a network's training images from the tags of its registered version."""

import json
from collections.abc import Mapping
from typing import Any

from peculiar.core.params import validate
from peculiar.core.survey import Survey

SURVEY = "survey"
PLAIN = ("dataset", "dimming", "split_by")
NUMBERS = ("pixels", "pixel_scale_arcsec", "sigma_v_kms", "H0_kms_mpc")


def survey_of(tags: Mapping[str, str], where: str) -> Survey:
    """Read the survey of a registered version.

    Parameters
    ----------
    tags : mapping of str to str
        Tags of the version. Versions before 2026-11-26 have one tag per value.
    where : str
        Name of the version, for messages.

    Returns
    -------
    Survey

    Raises
    ------
    InputError
        When the tags are missing, damaged or out of range; the message names the first such value.
    """
    if SURVEY in tags:
        return validate(Survey, _json(tags[SURVEY]), f"{where}: tag {SURVEY}")
    return validate(Survey, _of_single_tags(tags), f"{where}: tag")


def _of_single_tags(tags: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {key: tags[key] for key in PLAIN if key in tags}
    values |= {key: _json(tags[key]) for key in NUMBERS if key in tags}
    values["distribution"] = "not recorded"
    if "bands" in tags:
        values["bands"] = tuple(tags["bands"])
    if "data_source" in tags:
        values["source"] = tags["data_source"]
    instrument = tags.get("instrument", "")
    return values | {"instrument": _json(instrument) if instrument else None}


def _json(text: str) -> Any:
    """Parse JSON; text that is not JSON is returned for `validate` to refuse."""
    try:
        return json.loads(text)
    except ValueError:
        return text
