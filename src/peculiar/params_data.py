"""The sections of `params.yaml` about data: fetch and observe."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Generic, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from urllib3.util import parse_url

from peculiar.params import Name, Section, check_known

Band = Literal["u", "g", "r", "i", "z"]
Fraction = Annotated[float, Field(gt=0, lt=1)]


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


def _with_host(url: str) -> str:
    """Refuse hosts and ports that are none; urllib3 says why."""
    try:
        parse_url(url)
    except ValueError as error:
        raise ValueError(f"no valid URL ({error}): mend it") from None
    return url


class IllustrisSection(Section):
    """Illustris' images over its API."""

    url: Annotated[
        str, Field(pattern=r"^https?://[^/?#@\s]+(/[^?#\s]*)?$"), AfterValidator(_with_host)
    ]
    simulation: Literal["Illustris-1", "Illustris-2", "Illustris-3"]
    snapshot: Literal[135]  # redshift 0: the API's comoving lengths are physical ones
    catalogue: Path | None
    log10_mass_min: Annotated[float, Field(ge=0)]
    primary: bool
    galaxies: PositiveInt | None
    folder: Path
    connections: Annotated[int, Field(ge=1, le=16)]
    attempts: Annotated[int, Field(ge=2)]  # only another copy tells what is damaged on the way
    timeout_s: PositiveFloat

    @property
    def snapshot_name(self) -> str:
        """Simulation and snapshot, as the API's URLs have them."""
        return f"{self.simulation}/snapshots/{self.snapshot}"

    @property
    def snapshot_url(self) -> str:
        """Where the API has the snapshot, without a slash at the end."""
        return f"{self.url.rstrip('/')}/{self.snapshot_name}"


class SkirtSection(Section):
    """A folder of TNG SKIRT files."""

    folder: Path
    pixels: PositiveInt


class NsaSection(Section):
    """A folder of NASA-Sloan Atlas images and its catalogue."""

    folder: Path
    catalogue: Path | None
    pixels: PositiveInt


class Fetch(Section):
    """Stage `fetch`."""

    source: Literal["standin", "files", "illustris", "skirt", "nsa"]
    bands: Annotated[tuple[Band, ...], Field(min_length=1)]
    shard_galaxies: PositiveInt
    standin: StandInSection
    files: FilesSection
    illustris: IllustrisSection
    skirt: SkirtSection
    nsa: NsaSection


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
