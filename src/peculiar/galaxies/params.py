"""The section `fetch` of `params.yaml`."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from urllib3.util import parse_url

from peculiar.core.params import Section
from peculiar.core.photometry import Band


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
