"""Describe the images of a dataset: bands, pixels, dimming, sky, distances, H0 and sigma_v.

`observe` writes this description into the table of the images, `train` into `run.json`, and
`promote` into the tags of a registered model.
"""

from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from peculiar.core.cosmography import Cosmography, Cosmology
from peculiar.core.params import DatasetName, Section
from peculiar.core.photometry import Band

Scale = Literal["header", "paper"]
Dimming = Literal["physical", "literal"]
PAPER_FIELD_KPC = 84.4  # side of every frame of Illustris in the paper, section 3.1
OFFERED = ("D_least", "D_most")  # in metadata: between these a network is offered, Mpc
SplitBy = Literal["galaxy", "image"]
Number = TypeVar("Number", bound=float)


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
    """Distances uniform between two limits."""

    distribution: Literal["uniform"]


class Volume(Between):
    """Galaxies uniform in volume: their number per distance grows as D^2, as in a survey."""

    distribution: Literal["volume"]


class Normal(Section):
    """Normal distances; those below `min_mpc` are drawn again."""

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
    """Real galaxies: distances of a flow model, redshifts of a catalogue."""

    distribution: Literal["measured"]


class Unrecorded(Section):
    """Distribution of distances of a run before 2026-11-26, which kept only name and range."""

    distribution: Literal["unrecorded"] = "unrecorded"
    was: str
    range_mpc: tuple[float, float] | None


Simulated = Uniform | Volume | Normal
Distances = Annotated[Simulated | Measured, Field(discriminator="distribution")]
Recorded = Annotated[Simulated | Measured | Unrecorded, Field(discriminator="distribution")]


class PerBand(Section, Generic[Number]):
    """A number for each SDSS band."""

    u: Number
    g: Number
    r: Number
    i: Number
    z: Number

    def __getitem__(self, band: str) -> Number:
        """The number of one band."""
        number: Number = getattr(self, band)
        return number


class Instrument(Section):
    """A camera and its sky.

    Attributes
    ----------
    psf : {"moffat", "gaussian"}
        Profile of a point source.
    moffat_beta : float
        Exponent beta of the Moffat profile.
    fwhm_arcsec : PerBand
        Full width of the profile at half maximum, before integration over pixels, arcsec.
    sky_mag_arcsec2 : PerBand
        Sky, AB mag/arcsec^2.
    count_mag : PerBand
        AB magnitude of a source that gives one count (DN) in the exposure, mag.
    gain : PerBand
        Electrons per count.
    dark_variance : PerBand
        Variance of dark current and readout, counts^2 per native pixel.
    native_pixel_arcsec : float
        Side of the camera's own pixel, arcsec.
    noise : bool
        Whether noise is added; if not, images are only smoothed by the PSF.
    """

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


class Survey(Section):
    """Properties that all images of a dataset share.

    Attributes
    ----------
    dataset : str
        Name in `observe.distances` of `params.yaml`.
    source : str
        Origin of the images, shown with every result, for example "stand-in".
    distances : Uniform, Volume, Normal or Measured
        Distribution of the distances.
    bands : tuple of str
        SDSS bands, in the order of the images.
    pixels : int
        Side of the images, pixels.
    pixel_scale_arcsec : float
        Pixel scale, arcsec.
    scale : {"header", "paper"}
        Pixel scale of the raw images: as their files say (header), or of frames of 84.4 kpc
        whatever the files say (paper: where frames differ, galaxies get one size, a ruler).
    dimming : {"physical", "literal"}
        Surface brightness is constant with distance (physical), or falls as (50 Mpc / D)^2
        (literal: a reading of the paper, in which pixel values reveal the distance).
    cosmology : {"hubble", "flat_lambda_cdm"}
        Simulated images are placed by Euclid's rules (hubble), or larger by 1 + z and fainter by
        (1 + z)^4, as real ones are (flat_lambda_cdm). D_z = D + v / H0 with both.
    psf_fwhm_arcsec : float or None
        FWHM of the Gaussian PSF with which the images are placed, the same at all distances,
        arcsec; None for cubic resampling (the paper's, and ours before 2026-11-26), whose sharpness
        changes with distance.
    instrument : Instrument or None
        Sky, seeing and noise; None for images without them.
    measured_frame : str
        Frame of measured redshifts, of `peculiar.core.frames.FRAMES`, or "unknown", as in
        datasets before 2026-11-29; see `cz_frame`.
    H0_kms_mpc : float
        Hubble constant, km/s/Mpc.
    sigma_v_kms : float
        Deviation of peculiar velocities, km/s.
    split_by : {"galaxy", "image"}
        Units that are assigned to splits; by image, a galaxy is in several splits.
    """

    dataset: DatasetName
    source: str
    distances: Recorded
    bands: Annotated[tuple[Band, ...], Field(min_length=1)]
    pixels: PositiveInt
    pixel_scale_arcsec: PositiveFloat
    scale: Scale = "header"
    dimming: Dimming
    cosmology: Cosmology = "hubble"
    psf_fwhm_arcsec: PositiveFloat | None = None
    instrument: Instrument | None
    measured_frame: str = "unknown"
    H0_kms_mpc: PositiveFloat
    sigma_v_kms: PositiveFloat
    split_by: SplitBy

    @model_validator(mode="before")
    @classmethod
    def _older(cls, values: Any) -> Any:
        """Convert datasets and runs before 2026-11-26, which had `distribution`, `range_mpc`."""
        if not isinstance(values, dict) or "distribution" not in values:
            return values
        was, ends = values["distribution"], values.get("range_mpc")
        kept = {k: v for k, v in values.items() if k not in ("distribution", "range_mpc")}
        if was == "measured":
            kept.setdefault("distances", {"distribution": was})
        return {"distances": {"distribution": "unrecorded", "was": was, "range_mpc": ends}} | kept

    @model_validator(mode="after")
    def _different(self) -> Self:
        if len(set(self.bands)) < len(self.bands):
            raise ValueError(f"a band is listed twice in {''.join(self.bands)}")
        return self

    @property
    def law(self) -> Cosmography:
        """Law of distance and redshift by which images are placed."""
        return Cosmography(self.cosmology, self.H0_kms_mpc)

    @property
    def distribution(self) -> str:
        """Name of the distribution of distances: uniform, volume, normal or measured."""
        if isinstance(self.distances, Unrecorded):
            return self.distances.was
        return self.distances.distribution

    @property
    def measured(self) -> bool:
        """Whether the galaxies are real, at measured distances."""
        return self.distribution == "measured"

    @property
    def cz_frame(self) -> str:
        """Frame of the redshift distances. Simulated ones have the motion of no Sun: "cmb"."""
        return self.measured_frame if self.measured else "cmb"

    @property
    def range_mpc(self) -> tuple[float, float] | None:
        """Least and greatest distance, Mpc; None where the distribution has no limits."""
        match self.distances:
            case Between(min_mpc=near, max_mpc=far):
                return near, far
            case Unrecorded(range_mpc=ends):
                return ends
        return None

    @property
    def sigma_z_mpc(self) -> float:
        """Standard deviation of D_z - D, sigma_v / H0, Mpc."""
        return self.sigma_v_kms / self.H0_kms_mpc
