"""Parameters of one network, as in `params.yaml` and `run.json`."""

from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from peculiar.core.params import Section

Schedule = Literal["constant", "cosine", "onecycle"]
Family = Literal["cnn", "pyramid", "starlet", "apertures", "resnet18", "resnet50"]
MEASURED = ("starlet", "apertures")  # families whose front measures numbers of an image
Head = Literal["point", "gaussian", "binned"]
Label = Literal["D", "D_z"]
Loss = Literal["absolute", "fractional"]
Precision = Literal["float32", "bfloat16"]
Folds = Annotated[int, Field(ge=0)]
BatchSize = Annotated[int, Field(ge=2)]


class LayerSection(Section):
    """One convolution."""

    filters: PositiveInt
    kernel: PositiveInt
    stride: PositiveInt


class Training(Section):
    """Training parameters that a search does not vary."""

    label: Label
    normalise: bool
    head: Head
    loss: Loss
    rounds: PositiveInt
    batch_norm: bool
    crop: PositiveInt | None
    softening_mag_arcsec2: PositiveFloat
    fresh: bool
    fresh_mpc: tuple[PositiveFloat, PositiveFloat] | None
    views: PositiveInt | None
    kernels: bool
    images_per_galaxy: PositiveInt | None
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
    calibration_folds: Folds | None

    @property
    def all_epochs(self) -> int:
        """Largest number of epochs, over all members and rounds."""
        return self.epochs * self.members * self.rounds

    @property
    def folds(self) -> int:
        """Number of networks that are trained to calibrate each member; none for a point head."""
        return 0 if self.head == "point" else self.calibration_folds or 0

    @model_validator(mode="after")
    def _distribution(self) -> Self:
        if self.calibration_folds == 1:
            raise ValueError("calibration_folds 1 leaves nothing to learn from: take 0, or 2 up")
        if self.head == "point" and (self.members > 1 or self.average_turns):
            raise ValueError("members and average_turns need head gaussian or binned")
        if self.head != "point" and self.loss != "absolute":
            raise ValueError("loss fractional is of distances: set head: point")
        if self.rounds > 1 and (self.head != "point" or self.label != "D_z" or self.fresh):
            raise ValueError("rounds correct fixed labels D_z of head point (fresh: false)")
        if self.fresh_mpc is not None and not self.fresh:
            raise ValueError(
                "fresh_mpc limits fresh distances: set fresh: true, or fresh_mpc: null"
            )
        if self.fresh_mpc is not None and self.fresh_mpc[0] >= self.fresh_mpc[1]:
            raise ValueError("fresh_mpc must be [low, high] with low below high")
        if self.views is not None and not self.fresh:
            raise ValueError("views are fresh distances: set fresh: true, or views: null")
        if self.kernels and not self.fresh:
            raise ValueError("kernels are drawn for fresh distances: set fresh: true")
        return self


class NetworkSection(Training):
    """One network: its layers and all parameters of its training."""

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
        if (self.family in ("pyramid", *MEASURED)) != bool(self.hidden):
            raise ValueError(
                "a pyramid, a starlet and apertures need hidden units, other families have none "
                "(hidden: 0)"
            )
        if self.dropout and self.family not in MEASURED:
            raise ValueError(
                "only a starlet and apertures have dropout, other families have none (dropout: 0)"
            )
        if self.family in MEASURED and (self.augment or self.average_turns):
            raise ValueError(
                f"{self.family} is the same for all turns (augment: false, average_turns: false)"
            )
        return self
