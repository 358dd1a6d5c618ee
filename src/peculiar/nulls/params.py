"""The section `nulls` of `params.yaml`."""

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from peculiar.core.params import Section
from peculiar.runs.nulls import Limits

RawPixels = Annotated[int, Field(ge=16)]


class Nulls(Section):
    """Stage `nulls`.

    Attributes
    ----------
    seed : int
        Seed of scenes, galaxies, distances and trainings.
    scenes : int
        Scenes of each kind to train on; a fifth as many calibrate.
    unseen : int
        Scenes of each kind to judge on; the error of r is about unseen^-1/2.
    epochs : int
        Largest number of epochs of a training on scenes.
    galaxies : int
        Galaxies that are rendered in several ways.
    distances : int
        Distances at which each of their four views is placed.
    log10_mass_max : float
        Most massive of these galaxies, log10(M*/Msun): light ones are rendered quickly.
    pixels : tuple of int
        Other numbers of raw pixels on the same field of view.
    limits : Limits
        Beyond them a network fails and cannot be promoted.
    """

    seed: NonNegativeInt
    scenes: Annotated[int, Field(ge=4)]
    unseen: Annotated[int, Field(ge=10)]
    epochs: PositiveInt
    galaxies: Annotated[int, Field(ge=2)]
    distances: PositiveInt
    log10_mass_max: PositiveFloat
    pixels: tuple[RawPixels, ...]
    limits: Limits
