"""The section `promote` of `params.yaml`."""

from typing import Annotated

from pydantic import (
    Field,
    NonNegativeInt,
)

from peculiar.core.params import Section


class Promote(Section):
    """Stage `promote`."""

    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
    confidence: Annotated[float, Field(ge=0.5, lt=1)]
    bootstrap: Annotated[int, Field(ge=100)]
    seed: NonNegativeInt
