"""The section `observe` of `params.yaml`."""

from collections.abc import Mapping
from typing import Annotated, Generic, Literal, Self, TypeVar

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from peculiar.core.params import Name, Section, check_known

Fraction = Annotated[float, Field(gt=0, lt=1)]


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


class Between(Section):
    """Distances between two limits."""

    min_mpc: PositiveFloat
    max_mpc: PositiveFloat

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_mpc >= self.max_mpc:
            raise ValueError("min_mpc must be below max_mpc")
        return self


class Uniform(Between):
    """As many galaxies at each distance."""

    distribution: Literal["uniform"]


class Volume(Between):
    """As many galaxies in each volume: their number grows as D^2, as in a survey."""

    distribution: Literal["volume"]


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


class Measured(Section):
    """Real galaxies where they are: distances of a flow model, redshifts of a catalogue."""

    distribution: Literal["measured"]


Simulated = Annotated[Uniform | Volume | Normal, Field(discriminator="distribution")]
Distances = Annotated[Uniform | Volume | Normal | Measured, Field(discriminator="distribution")]
Number = TypeVar("Number", bound=float)


class PerBand(Section, Generic[Number]):
    """A number for each SDSS band."""

    u: Number
    g: Number
    r: Number
    i: Number
    z: Number


class InstrumentSection(Section):
    """A camera and its sky."""

    psf: Literal["moffat", "gaussian"]
    # below 2, a kernel with all but a thousandth of the light is larger than a frame
    moffat_beta: Annotated[float, Field(ge=2)]
    fwhm_arcsec: PerBand[PositiveFloat]
    sky_mag_arcsec2: PerBand[float]
    count_mag: PerBand[float]
    gain: PerBand[PositiveFloat]
    dark_variance: PerBand[NonNegativeFloat]
    native_pixel_arcsec: PositiveFloat
    noise: bool


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
    instrument: Name | None
    instruments: Mapping[Name, InstrumentSection]
    split: Split
    shard_images: PositiveInt

    @model_validator(mode="after")
    def _known(self) -> Self:
        check_known("dataset", self.datasets, self.distances)
        if self.instrument is not None:
            check_known("instrument", (self.instrument,), self.instruments)
        return self
