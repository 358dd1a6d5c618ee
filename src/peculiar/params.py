"""`params.yaml`, one frozen and validated model per stage.

Every key is required and no other is accepted, so that each value has one home: the file, where
its meaning and unit stand beside it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from peculiar.errors import InputError

PARAMS = Path("params.yaml")

Band = Literal["u", "g", "r", "i", "z"]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Schedule = Literal["constant", "cosine"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]


class Section(BaseModel):
    """Base of every section: frozen, nothing unknown, nothing infinite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class StandInSection(Section):
    """The stand-in simulation."""

    seed: NonNegativeInt
    galaxies: PositiveInt
    pixels: Annotated[int, Field(ge=32, multiple_of=16)]
    field_of_view_kpc: PositiveFloat
    particle_mass_msun: PositiveFloat
    log10_mass_min: PositiveFloat
    log10_mass_max: PositiveFloat
    size_factor: PositiveFloat
    size_scatter: Annotated[float, Field(ge=0)]
    colour_scatter: Annotated[float, Field(ge=0)]
    neighbours: PositiveInt

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.log10_mass_min >= self.log10_mass_max:
            raise ValueError("log10_mass_min must be below log10_mass_max")
        return self


class FilesSection(Section):
    """A folder of downloaded broadband files."""

    folder: Path
    catalogue: Path | None


class Fetch(Section):
    """Stage `fetch`."""

    source: Literal["standin", "files"]
    bands: Annotated[tuple[Band, ...], Field(min_length=1)]
    shard_galaxies: PositiveInt
    standin: StandInSection
    files: FilesSection


class Split(Section):
    """Fractions of the three splits, and what is split."""

    by: Literal["galaxy", "image"]
    train: Fraction
    validation: Fraction
    test: Fraction

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if abs(self.train + self.validation + self.test - 1) > 1e-9:
            raise ValueError("train, validation and test must add up to 1")
        return self


class Uniform(Section):
    """Distances uniform between two limits."""

    distribution: Literal["uniform"]
    min_mpc: PositiveFloat
    max_mpc: PositiveFloat

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_mpc >= self.max_mpc:
            raise ValueError("min_mpc must be below max_mpc")
        return self


class Normal(Section):
    """Normal distances, drawn again where nearer than a limit."""

    distribution: Literal["normal"]
    mean_mpc: PositiveFloat
    sigma_mpc: PositiveFloat
    min_mpc: PositiveFloat

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.min_mpc >= self.mean_mpc:
            raise ValueError("min_mpc must be below mean_mpc")
        return self


Distances = Annotated[Uniform | Normal, Field(discriminator="distribution")]


class Observe(Section):
    """Stage `observe`."""

    datasets: Annotated[tuple[Name, ...], Field(min_length=1)]
    distances: Mapping[Name, Distances]
    seed: NonNegativeInt
    H0_kms_mpc: PositiveFloat
    sigma_v_kms: PositiveFloat
    pixels: PositiveInt
    pixel_scale_arcsec: PositiveFloat
    dimming: Literal["physical", "literal"]
    split: Split
    shard_images: PositiveInt

    @model_validator(mode="after")
    def _known(self) -> Self:
        _check_known("dataset", self.datasets, self.distances)
        return self


class LayerSection(Section):
    """One convolution."""

    filters: PositiveInt
    kernel: PositiveInt
    stride: PositiveInt


class NetworkSection(Section):
    """One network and how long and fast it learns."""

    family: Literal["cnn", "resnet18", "resnet50"]
    layers: tuple[LayerSection, ...]
    batch_norm: bool
    augment: bool
    schedule: Schedule
    learning_rate: PositiveFloat
    epochs: PositiveInt

    @model_validator(mode="after")
    def _layered(self) -> Self:
        if (self.family == "cnn") != bool(self.layers):
            raise ValueError("a cnn needs layers, a resnet has its own (layers: [])")
        return self


class SearchedNetwork(Section):
    """The network `best`: what the search does not decide; the rest stands in best.yaml."""

    family: Literal["cnn"]
    batch_norm: bool
    augment: bool
    schedule: Schedule
    epochs: PositiveInt

    def complete(self, searched: dict[str, Any], epochs: int | None = None) -> NetworkSection:
        """The whole network, from the searched keys `layers` and `learning_rate`."""
        fixed = self.model_dump() | ({} if epochs is None else {"epochs": epochs})
        return validate(NetworkSection, searched | fixed, "best.yaml")


class FitSection(Section):
    """What all networks share in training."""

    label: Literal["D", "D_z"]
    normalise: bool
    batch_size: Annotated[int, Field(ge=2)]
    softening_mag_arcsec2: PositiveFloat
    seed: NonNegativeInt


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
    fit: FitSection
    best: SearchedNetwork
    specs: Mapping[Name, NetworkSection]

    @model_validator(mode="after")
    def _known(self) -> Self:
        _check_known("network", self.networks, self.specs)
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


SECTIONS: dict[str, type[Section]] = {
    "fetch": Fetch,
    "observe": Observe,
    "search": Search,
    "train": Train,
    "evaluate": Evaluate,
    "promote": Promote,
}

S = TypeVar("S", bound=Section)


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
        raise InputError(f"{path} must hold the sections {', '.join(SECTIONS)}")
    unknown = sorted(set(whole) - set(SECTIONS))
    if unknown:
        raise InputError(f"{path}: unknown section {unknown[0]!r}; take {', '.join(SECTIONS)}")
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


def _check_known(kind: str, names: tuple[str, ...], known: Mapping[str, object]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"no {kind} is called {name!r}; known are {', '.join(known)}")
    if len(set(names)) < len(names):
        raise ValueError(f"a {kind} stands twice in {list(names)}")
