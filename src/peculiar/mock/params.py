"""The section `observe` of `params.yaml`."""

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from peculiar.core.cosmography import HUBBLE, Cosmology
from peculiar.core.params import DatasetName, Name, Section, check_known
from peculiar.core.survey import Dimming, Distances, Instrument, Scale, SplitBy

Fraction = Annotated[float, Field(gt=0, lt=1)]


class Split(Section):
    """Fractions of the three splits, and whether galaxies or images are assigned to them."""

    by: SplitBy
    train: Fraction
    validation: Fraction
    test: Fraction

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if abs(self.train + self.validation + self.test - 1) > 1e-9:
            raise ValueError("train, validation and test must add up to 1")
        return self


class Reading(Section):
    """How raw images are taken: see the attributes of the same names of `Survey`."""

    scale: Scale
    dimming: Dimming
    psf_fwhm_arcsec: PositiveFloat | None


class Observe(Reading):
    """Stage `observe`."""

    datasets: Annotated[tuple[DatasetName, ...], Field(min_length=1)]
    distances: Mapping[DatasetName, Distances]
    readings: Mapping[DatasetName, Reading]
    seed: NonNegativeInt
    cosmology: Cosmology
    H0_kms_mpc: PositiveFloat
    sigma_v_kms: PositiveFloat
    pixels: PositiveInt
    pixel_scale_arcsec: PositiveFloat
    instrument: Name | None
    instruments: Mapping[Name, Instrument]
    split: Split
    shard_images: PositiveInt

    @model_validator(mode="after")
    def _known(self) -> Self:
        check_known("dataset", self.datasets, self.distances)
        check_known("dataset", tuple(self.readings), self.distances)
        literal = [name for name in self.datasets if self.reading(name).dimming == "literal"]
        if literal and self.cosmology != HUBBLE:
            raise ValueError(
                f"dimming literal is of the paper's Euclidean images: {literal[0]} takes cosmology "
                "hubble"
            )
        if self.instrument is not None:
            check_known("instrument", (self.instrument,), self.instruments)
        return self

    def reading(self, dataset: str) -> Reading:
        """How a dataset takes its raw images."""
        return self.readings.get(dataset, self)
