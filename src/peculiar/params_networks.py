"""The sections of `params.yaml` about networks: search, train, evaluate and promote."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from peculiar.params import Name, Section, check_known, validate

Schedule = Literal["constant", "cosine", "onecycle"]


class LayerSection(Section):
    """One convolution."""

    filters: PositiveInt
    kernel: PositiveInt
    stride: PositiveInt


class Training(Section):
    """What a network learns and how: what a search leaves alone."""

    label: Literal["D", "D_z"]
    normalise: bool
    head: Literal["point", "gaussian", "binned"]
    batch_norm: bool
    crop: PositiveInt | None
    softening_mag_arcsec2: PositiveFloat
    fresh: bool
    views: PositiveInt | None
    kernels: bool
    augment: bool
    average_turns: bool
    members: PositiveInt
    batch_size: Annotated[int, Field(ge=2)]
    schedule: Schedule
    weight_decay: NonNegativeFloat
    ema: Annotated[float, Field(ge=0, lt=1)]
    patience: PositiveInt | None
    epochs: PositiveInt

    @model_validator(mode="after")
    def _distribution(self) -> Self:
        if self.head == "point" and (self.members > 1 or self.average_turns):
            raise ValueError("members and average_turns need head gaussian or binned")
        if self.views is not None and not self.fresh:
            raise ValueError("views are fresh distances: set fresh: true, or views: null")
        if self.kernels and not self.fresh:
            raise ValueError("kernels are drawn for fresh distances: set fresh: true")
        return self


class NetworkSection(Training):
    """One network and how long and fast it learns."""

    family: Literal["cnn", "pyramid", "starlet", "resnet18", "resnet50"]
    layers: tuple[LayerSection, ...]
    hidden: NonNegativeInt
    dropout: Annotated[float, Field(ge=0, lt=1)]
    learning_rate: PositiveFloat

    @model_validator(mode="after")
    def _layered(self) -> Self:
        if (self.family in ("cnn", "pyramid")) != bool(self.layers):
            raise ValueError(
                "a cnn and a pyramid need layers, other families have their own (layers: [])"
            )
        if (self.family in ("pyramid", "starlet")) != bool(self.hidden):
            raise ValueError(
                "a pyramid and a starlet need hidden units, other families have none (hidden: 0)"
            )
        if self.dropout and self.family != "starlet":
            raise ValueError("only a starlet has dropout, other families have none (dropout: 0)")
        if self.family == "starlet" and (self.augment or self.average_turns):
            raise ValueError(
                "a starlet is the same for all turns (augment: false, average_turns: false)"
            )
        return self


class SearchedNetwork(Training):
    """The network `best`: what the search does not decide; the rest stands in best.yaml."""

    family: Literal["cnn"]
    hidden: Literal[0]
    dropout: Literal[0]

    def complete(self, searched: dict[str, Any], epochs: int | None = None) -> NetworkSection:
        """The whole network, from the searched keys `layers` and `learning_rate`."""
        fixed = self.model_dump() | ({} if epochs is None else {"epochs": epochs})
        return validate(NetworkSection, searched | fixed, "best.yaml")


class Space(Section):
    """The search space."""

    depth: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    filters: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    kernel: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    stride: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    learning_rate: tuple[PositiveFloat, PositiveFloat]
    max_multiply_adds: PositiveFloat

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.learning_rate[0] >= self.learning_rate[1]:
            raise ValueError("learning_rate must be [lowest, highest]")
        return self


class Search(Section):
    """Stage `search`."""

    dataset: Name
    trials: PositiveInt
    epochs: PositiveInt
    seed: NonNegativeInt
    space: Space


class Train(Section):
    """Stage `train`."""

    datasets: Annotated[tuple[Name, ...], Field(min_length=1)]
    networks: Annotated[tuple[Name, ...], Field(min_length=1)]
    seed: NonNegativeInt
    best: SearchedNetwork
    specs: Mapping[Name, NetworkSection]

    @model_validator(mode="after")
    def _known(self) -> Self:
        check_known("network", self.networks, self.specs)
        return self

    def items(self) -> list[tuple[str, str]]:
        """(dataset, network) of every trained network, `best` last for each dataset."""
        return [(d, n) for d in self.datasets for n in (*self.networks, "best")]


class Evaluate(Section):
    """Stage `evaluate`."""

    bootstrap: Annotated[int, Field(ge=10)]
    seed: NonNegativeInt


class Promote(Section):
    """Stage `promote`."""

    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
    confidence: Annotated[float, Field(ge=0.5, lt=1)]
    bootstrap: Annotated[int, Field(ge=100)]
    seed: NonNegativeInt
