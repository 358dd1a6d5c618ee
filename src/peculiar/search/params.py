"""The section `search` of `params.yaml`."""

from typing import Annotated, ClassVar, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Tag,
    model_validator,
)

from peculiar.core.params import DatasetName, Section
from peculiar.networks.params import MEASURED, BatchSize, Family, Head

ObjectiveName = Literal["l2", "parameters", "seconds"]


T = TypeVar("T")


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
        raise ValueError(f"a value is listed twice in {list(choices)}")
    return choices


Choices = Annotated[tuple[T, ...], Field(min_length=1), AfterValidator(_different)]


Numbers = Annotated[
    Annotated[Range, Tag("between")] | Annotated[Choices[PositiveFloat], Tag("choices")],
    Discriminator(lambda value: "between" if isinstance(value, dict | Range) else "choices"),
]


class Space(Section):
    """The search space; null takes a value from `train.best`."""

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
        if ({"pyramid", *MEASURED} & set(self.family or ())) and self.hidden is None:
            raise ValueError(
                "a pyramid, a starlet and apertures need hidden units: list some in hidden"
            )
        if "pyramid" in (self.family or ()) and any(kernel % 2 == 0 for kernel in self.kernel):
            raise ValueError("an even kernel of a pyramid has no middle: take odd kernels")
        return self

    def conditional(self) -> bool:
        """Whether some parameters belong to some networks only."""
        return len(self.depth) > 1 or len(self.family or ("cnn",)) > 1


class Slurm(Section):
    """Resources of a worker's SLURM job."""

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

    # number of trials and where they run; they change no trial
    ENGINE: ClassVar = {"trials", "workers", "cluster", "storage", "slurm"}

    dataset: DatasetName
    trials: PositiveInt
    epochs: PositiveInt
    seeds: PositiveInt
    seed: NonNegativeInt
    sampler: Literal["tpe", "gp", "grid", "random", "qmc"]
    pruner: Literal["none", "median", "hyperband", "wilcoxon"]
    objectives: Annotated[tuple[ObjectiveName, ...], Field(min_length=1, max_length=2)]
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
        if self.sampler == "grid" and any(isinstance(values, Range) for _, values in self.space):
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
