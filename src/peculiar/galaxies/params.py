"""The section `fetch` of `params.yaml`."""

import os
from pathlib import Path
from typing import Annotated, Literal, Self

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

from peculiar.core.params import Section
from peculiar.core.photometry import Band

SourceName = Literal["standin", "files", "illustris", "skirt", "nsa"]


class StandIn(Section):
    """Parameters of the stand-in simulation.

    Attributes
    ----------
    seed : int
        Seed of every draw.
    galaxies : int
        Number of galaxies.
    pixels : int
        Pixels along one side of the images (Torrey et al. 2015: 256).
    field_of_view_kpc : float
        Side of the images, kpc.
    field_of_view_radii : float or None
        Side of the images in stellar half-mass radii of each galaxy, in place of
        `field_of_view_kpc`; None for the same field in all. The public Illustris images are said to
        span ten.
    particle_mass_msun : float
        Mass of a star particle, Msun (Vogelsberger et al. 2014, MNRAS 444, 1518).
    log10_mass_min, log10_mass_max : float
        Limits of the stellar masses, log10(M*/Msun).
    size_factor : float
        Sizes over those of Shen et al. (2003); in Illustris about 2 (Snyder et al. 2015, MNRAS
        454, 1886; Bottrell et al. 2017, MNRAS 467, 2879). Dimensionless.
    size_scatter : float
        Factor on the scatter of the size-mass relation of Shen et al. (2003), dimensionless.
    colour_scatter : float
        Factor on the scatter between galaxies of old ages (0.1 dex), metallicities (0.1 dex)
        and star formation rates (0.3 dex; Elbaz et al. 2007), dimensionless.
    neighbours : int
        A particle's light is a Gaussian whose full width at half maximum is the distance to this
        neighbour (Torrey et al. 2015: the 16th).
    resolution_factor : float
        The mass of the particles and the number of the neighbour are drawn for each galaxy, each
        log-uniformly between the value above over this factor and times this factor; 1 for the
        same values in all. Nature has no such particles, so a network must not know their mass.
    """

    seed: NonNegativeInt
    galaxies: PositiveInt
    pixels: Annotated[int, Field(ge=16)]
    field_of_view_kpc: PositiveFloat
    field_of_view_radii: PositiveFloat | None
    particle_mass_msun: PositiveFloat
    log10_mass_min: PositiveFloat
    log10_mass_max: PositiveFloat
    size_factor: PositiveFloat
    size_scatter: NonNegativeFloat
    colour_scatter: NonNegativeFloat
    neighbours: PositiveInt
    resolution_factor: Annotated[float, Field(ge=1)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.log10_mass_min >= self.log10_mass_max:
            raise ValueError("log10_mass_min must be below log10_mass_max")
        particles = 10**self.log10_mass_min / (self.particle_mass_msun * self.resolution_factor)
        if self.neighbours * self.resolution_factor >= particles:
            raise ValueError(
                "neighbours must be fewer than the particles of the least massive galaxy"
            )
        return self


def _where_it_is(path: Path) -> Path:
    """A relative path; below the repository where DVC runs an experiment in a temporary folder."""
    repository = os.environ.get("DVC_ROOT")
    return path if repository is None or path.exists() else Path(repository) / path


Place = Annotated[Path, AfterValidator(_where_it_is)]


class FilesSection(Section):
    """A folder of downloaded broadband files."""

    folder: Place
    catalogue: Place | None


LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def _safe(url: str) -> str:
    """Refuse a URL whose host or port is not valid, or that shows the API key to others."""
    try:
        parts = parse_url(url)
    except ValueError as error:
        raise ValueError(f"no valid URL ({error}): correct it") from None
    if parts.scheme == "http" and parts.host not in LOOPBACK:
        raise ValueError("http would send the API key in clear text: use https")
    return url


class IllustrisSection(Section):
    """Illustris' images over its API."""

    url: Annotated[str, Field(pattern=r"^https?://[^/?#@\s]+(/[^?#\s]*)?$"), AfterValidator(_safe)]
    simulation: Literal["Illustris-1", "Illustris-2", "Illustris-3"]
    snapshot: Literal[135]  # redshift 0, where comoving lengths are physical
    catalogue: Place | None
    log10_mass_min: Annotated[float, Field(ge=0)]
    primary: bool
    galaxies: PositiveInt | None
    folder: Place
    connections: Annotated[int, Field(ge=1, le=16)]
    attempts: Annotated[int, Field(ge=2)]  # a second copy tells damage on the way
    timeout_s: PositiveFloat

    @property
    def snapshot_name(self) -> str:
        """Simulation and snapshot as in the API's URLs."""
        return f"{self.simulation}/snapshots/{self.snapshot}"

    @property
    def snapshot_url(self) -> str:
        """URL of the snapshot, without a slash at the end."""
        return f"{self.url.rstrip('/')}/{self.snapshot_name}"


class SkirtSection(Section):
    """A folder of TNG SKIRT files."""

    folder: Place
    pixels: PositiveInt


class NsaSection(Section):
    """A folder of NASA-Sloan Atlas images and its catalogue."""

    folder: Place
    catalogue: Place | None
    pixels: PositiveInt


class Fetch(Section):
    """Stage `fetch`."""

    source: SourceName
    bands: Annotated[tuple[Band, ...], Field(min_length=1)]
    shard_galaxies: PositiveInt
    standin: StandIn
    files: FilesSection
    illustris: IllustrisSection
    skirt: SkirtSection
    nsa: NsaSection
