"""The sections of `params.yaml` about networks: search, train, evaluate and promote."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Tag,
    model_validator,
)

from peculiar.params import Name, Section, check_known, validate

Schedule = Literal["constant", "cosine", "onecycle"]
Family = Literal["cnn", "pyramid", "starlet", "resnet18", "resnet50"]
Head = Literal["point", "gaussian", "binned"]
Precision = Literal["float32", "bfloat16"]
Objective = Literal["l2", "parameters", "seconds"]
BatchSize = Annotated[int, Field(ge=2)]
T = TypeVar("T")


class LayerSection(Section):
    """One convolution."""

    filters: PositiveInt
    kernel: PositiveInt
    stride: PositiveInt


class Training(Section):
    """What a network learns and how: what a search leaves alone."""

    label: Literal["D", "D_z"]
    normalise: bool
    head: Head
    loss: Literal["absolute", "fractional"]
    rounds: PositiveInt
    batch_norm: bool
    crop: PositiveInt | None
    softening_mag_arcsec2: PositiveFloat
    fresh: bool
    views: PositiveInt | None
    kernels: bool
    augment: bool
    average_turns: bool
    members: PositiveInt
    batch_size: BatchSize
    precision: Precision
    schedule: Schedule
    weight_decay: NonNegativeFloat
    ema: Annotated[float, Field(ge=0, lt=1)]
    patience: PositiveInt | None
    epochs: PositiveInt

    @property
    def all_epochs(self) -> int:
        """Epochs of all members and rounds, at most."""
        return self.epochs * self.members * self.rounds

    @model_validator(mode="after")
    def _distribution(self) -> Self:
        if self.head == "point" and (self.members > 1 or self.average_turns):
            raise ValueError("members and average_turns need head gaussian or binned")
        if self.head != "point" and self.loss != "absolute":
            raise ValueError("loss fractional is of distances: set head: point")
        if self.rounds > 1 and (self.head != "point" or self.label != "D_z" or self.fresh):
            raise ValueError("rounds correct fixed labels D_z of head point (fresh: false)")
        if self.views is not None and not self.fresh:
            raise ValueError("views are fresh distances: set fresh: true, or views: null")
        if self.kernels and not self.fresh:
            raise ValueError("kernels are drawn for fresh distances: set fresh: true")
        return self


class NetworkSection(Training):
    """One network and how long and fast it learns."""

    family: Family
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

    def complete(
        self, searched: dict[str, Any], epochs: int | None = None, where: str = "best.yaml"
    ) -> NetworkSection:
        """The whole network, from the searched keys, whatever they are; see `peculiar.space`."""
        last = {} if epochs is None else {"epochs": epochs}
        return validate(NetworkSection, self.model_dump() | searched | last, where)


class Range(Section):
    """All numbers from `low` to `high`."""

    low: PositiveFloat
    high: PositiveFloat

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError("low must be below high")
        return self


def _different(choices: tuple[T, ...]) -> tuple[T, ...]:
    if len(set(choices)) < len(choices):
        raise ValueError(f"a value stands twice in {list(choices)}")
    return choices


Choices = Annotated[tuple[T, ...], Field(min_length=1), AfterValidator(_different)]
Numbers = Annotated[
    Annotated[Range, Tag("between")] | Annotated[Choices[PositiveFloat], Tag("choices")],
    Discriminator(lambda value: "between" if isinstance(value, dict | Range) else "choices"),
]


class Space(Section):
    """The search space; null leaves a value to `train.best`."""

    family: Choices[Family] | None
    depth: Choices[PositiveInt]
    filters: Choices[PositiveInt]
    kernel: Choices[PositiveInt]
    stride: Choices[PositiveInt]
    same_stride: bool
    hidden: Choices[PositiveInt] | None
    learning_rate: Numbers
    weight_decay: Numbers | None
    batch_size: Choices[BatchSize] | None
    softening_mag_arcsec2: Numbers | None
    head: Choices[Head] | None
    max_multiply_adds: PositiveFloat

    @model_validator(mode="after")
    def _buildable(self) -> Self:
        if ({"pyramid", "starlet"} & set(self.family or ())) and self.hidden is None:
            raise ValueError("a pyramid and a starlet need hidden units: list some in hidden")
        if "pyramid" in (self.family or ()) and any(kernel % 2 == 0 for kernel in self.kernel):
            raise ValueError("an even kernel of a pyramid has no middle: take odd kernels")
        return self

    def conditional(self) -> bool:
        """Whether some parameters are there for some networks only."""
        return len(self.depth) > 1 or len(self.family or ("cnn",)) > 1


class Slurm(Section):
    """What a worker's job asks SLURM for."""

    cores: PositiveInt
    memory: str
    walltime: Annotated[str, Field(pattern=r"^(\d+-)?\d+(:\d\d){0,2}$")]
    partition: str | None
    account: str | None
    directives: tuple[str, ...]
    prologue: tuple[str, ...]
    interface: str | None
    log_directory: str
    patience_s: PositiveInt


class Search(Section):
    """Stage `search`."""

    # how many trials and where they run, which changes no trial
    ENGINE: ClassVar = {"trials", "workers", "cluster", "storage", "slurm"}

    dataset: Name
    trials: PositiveInt
    epochs: PositiveInt
    seeds: PositiveInt
    seed: NonNegativeInt
    sampler: Literal["tpe", "gp", "grid", "random", "qmc"]
    pruner: Literal["none", "median", "hyperband", "wilcoxon"]
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1, max_length=2)]
    models: bool
    workers: PositiveInt
    cluster: Annotated[str, Field(pattern=r"^(local|slurm|tcp://.+)$")]
    storage: Annotated[str, Field(pattern=r"^(journal|postgresql://.+)$")]
    slurm: Slurm
    space: Space

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.objectives[0] != "l2" or len(set(self.objectives)) < len(self.objectives):
            raise ValueError("objectives are [l2], [l2, parameters] or [l2, seconds]")
        if self.sampler in ("gp", "qmc") and self.space.conditional():
            raise ValueError(f"{self.sampler} needs a space of one depth and one family")
        if self.sampler == "grid" and any(isinstance(knob, Range) for _, knob in self.space):
            raise ValueError("a grid has lists of values and no low and high")
        if self.cluster == "slurm" and self.storage == "journal":
            raise ValueError("a journal is for one machine: slurm needs storage: postgresql://...")
        if self.pruner != "none":
            self._prunable()
        return self

    def _prunable(self) -> None:
        if len(self.objectives) > 1:
            raise ValueError("Optuna prunes for one objective only (pruner: none)")
        # the smallest p of n pairs is 2^-n, and Optuna prunes below 0.1
        if self.pruner == "wilcoxon" and self.seeds < 5:
            raise ValueError(
                "wilcoxon compares seeds, and epochs are no repetitions of each other: "
                "it needs 5 seeds or more"
            )
        if self.pruner != "wilcoxon" and self.seeds > 1:
            raise ValueError(f"{self.pruner} compares epochs of one training (seeds: 1)")
        if self.pruner != "wilcoxon" and self.epochs < 3:
            raise ValueError(f"{self.pruner} compares epochs: it needs 3 or more")


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
