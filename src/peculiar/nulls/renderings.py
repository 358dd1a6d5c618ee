"""The same stars in other renderings: raw pixels, field of view, particle mass, neighbours.

Everything is paired: each rendering shows the same galaxy from the same cameras at the same
distances. So a change of D_p is the rendering's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray

from peculiar.core.errors import InputError
from peculiar.core.photometry import BANDS
from peculiar.core.survey import Simulated, Survey
from peculiar.galaxies.params import StandIn
from peculiar.galaxies.standin.simulation import Stars, own_field, render, simulate
from peculiar.mock.distances import draw_distances_mpc
from peculiar.mock.images import read_kpc, views
from peculiar.nulls.params import Nulls
from peculiar.nulls.resamplers import resampled

Array = NDArray[np.float64]
Images = NDArray[np.float32]
REFERENCE = "as in training"
NEIGHBOURS = (8, 32)  # beside the 16th of Torrey et al. (2015)
FIELD = 1.25  # least factor on the field of view, at the same raw pixel scale
GALAXY, PLACE, NOISE = 5, 6, 7  # separate random streams of one seed


def thinned(stars: Stars, rng: np.random.Generator) -> Stars:
    """The same galaxy in half as many particles of twice the mass.

    Particles are paired by their light in u, so that young ones pair with young ones and old with
    old. One of each pair, drawn at random, keeps its place and takes the light of both. The light
    of the galaxy is conserved in each band, and each population keeps its own. An odd particle, the
    faintest, stays as it is.
    """
    order = np.argsort(stars.light[0], kind="stable")
    odd = len(order) % 2
    pairs = order[odd:].reshape(-1, 2)
    kept = np.append(order[:odd], rng.permuted(pairs, axis=1)[:, 0])
    light = np.append(stars.light[:, order[:odd]], stars.light[:, pairs].sum(axis=-1), axis=1)
    return replace(stars, position_kpc=stars.position_kpc[kept], light=light)


def light_galaxies(standin: StandIn, log10_mass_max: float) -> StandIn:
    """Parameters of the galaxies to render; particles have half the mass of those in training.

    Raises
    ------
    InputError
        When no galaxy of `fetch.standin` is as light.
    """
    if log10_mass_max <= standin.log10_mass_min:
        raise InputError(
            f"params.yaml: nulls.log10_mass_max: {log10_mass_max:g} must be above "
            f"fetch.standin.log10_mass_min, {standin.log10_mass_min:g}"
        )
    return standin.model_copy(
        update={
            "log10_mass_max": min(standin.log10_mass_max, log10_mass_max),
            "particle_mass_msun": standin.particle_mass_msun / 2,
        }
    )


def rendered(
    stars: Stars, standin: StandIn, params: Nulls, rng: np.random.Generator
) -> Iterator[tuple[str, Images, float]]:
    """Render a galaxy in each way.

    Parameters
    ----------
    stars : Stars
        Its particles, of half the mass of those in training.
    standin : StandIn
        Parameters of the training images.
    params : Nulls
        Section `nulls`.
    rng : numpy.random.Generator
        Draws which particles stay.

    Yields
    ------
    name : str
        What differs; the first is `REFERENCE`.
    images : ndarray, (camera, band, y, x), float32
        Surface brightness, W/m/m^2/sr.
    kpc_per_pixel : float
        Raw pixel scale, kpc.
    """
    as_trained = thinned(stars, rng)
    standin = own_field(standin, as_trained)  # one field for all renderings

    def show(what: Stars, **changes: float) -> tuple[Images, float]:
        own = standin.model_copy(update=changes)
        return render(what, own), own.field_of_view_kpc / own.pixels

    yield REFERENCE, *show(as_trained)
    for pixels in params.pixels:
        if pixels != standin.pixels:
            yield f"{pixels} raw pixels", *show(as_trained, pixels=pixels)
    wider = 16 * ceil(FIELD * standin.pixels / 16)
    field_kpc = standin.field_of_view_kpc * wider / standin.pixels
    name = f"field of {field_kpc:.1f} kpc"
    yield name, *show(as_trained, pixels=wider, field_of_view_kpc=field_kpc)
    yield "particle mass x 0.5", *show(stars)
    yield "particle mass x 2", *show(thinned(as_trained, rng))
    for neighbours in NEIGHBOURS:
        if neighbours != standin.neighbours:
            yield f"{neighbours} neighbours", *show(as_trained, neighbours=neighbours)


def _drawn_mpc(survey: Survey, size: int, rng: np.random.Generator) -> Array:
    """Distances (size,), Mpc, of a dataset of simulated galaxies."""
    assert isinstance(survey.distances, Simulated)
    return draw_distances_mpc(survey.distances, size, rng)


def galaxy_renderings(
    number: int, standin: StandIn, params: Nulls, surveys: Sequence[Survey]
) -> list[tuple[Array, dict[str, Images]]]:
    """Simulate a galaxy, render it in each way, and observe it for each dataset.

    Parameters
    ----------
    number : int
        Number of the galaxy.
    standin : StandIn
        Parameters of the training images.
    params : Nulls
        Section `nulls`.
    surveys : sequence of Survey
        One per dataset.

    Returns
    -------
    list of tuple
        For each dataset the distances (n,), Mpc, and the images (n, band, y, x), W/m/m^2/sr, of
        each rendering, by its name; n is four cameras times `params.distances`.
    """
    rng = np.random.default_rng([params.seed, GALAXY, number])
    stars = simulate(rng, light_galaxies(standin, params.log10_mass_max))
    seen: list[tuple[Array, dict[str, Images]]] = []
    for survey in surveys:
        # the same random numbers for each dataset
        own = np.random.default_rng([params.seed, PLACE, number])
        seen.append((_drawn_mpc(survey, 4 * params.distances, own), {}))
    for name, cameras, kpc in rendered(stars, standin, params, rng):
        for survey, (distance_mpc, images) in zip(surveys, seen, strict=True):
            raw = _in_bands(cameras, survey, params.distances)
            images.update(_observed(name, raw, kpc, distance_mpc, survey, [params.seed, number]))
    return seen


def _in_bands(cameras: Images, survey: Survey, distances: int) -> Images:
    """Raw images of the survey's bands, each camera `distances` times."""
    bands = [BANDS.index(band) for band in survey.bands]
    return np.ascontiguousarray(np.repeat(cameras[:, bands], distances, axis=0))


def _observed(
    name: str, raw: Images, kpc: float, distance_mpc: Array, survey: Survey, seed: list[int]
) -> Iterator[tuple[str, Images]]:
    """Observe one rendering; the reference also by other resamplers and with other noise."""

    def noise(stream: int = NOISE) -> list[np.random.Generator]:
        return [np.random.default_rng([*seed, stream, k]) for k in range(len(raw))]

    def seen(rngs: list[np.random.Generator]) -> Images:
        offset, device = np.zeros((len(raw), 2)), torch.device("cpu")
        placed = views(raw, scale, distance_mpc, offset, survey.pixels, survey, rngs, device)
        return np.asarray(placed.numpy())

    scale = read_kpc(survey.scale, np.full(len(raw), kpc), raw.shape[-1])
    yield name, seen(noise())
    if name != REFERENCE:
        return
    if survey.dimming == "physical":
        yield from resampled(raw, scale, distance_mpc, survey, noise)
    if survey.instrument is not None and survey.instrument.noise:
        yield "another seed of the noise", seen(noise(NOISE + 1))
