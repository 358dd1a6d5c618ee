"""Priors on the distance that a user can choose, in place of that of the training images.

A champion's p(D | image) has a flat prior, so it is the likelihood of the distance. It is
multiplied by a density on the champion's grid:

training
    Law of the distances of the champion's dataset, zero outside it.
uniform
    Flat; the default.
volume
    D^2: equal numbers in equal volumes.
flux-limited
    D^2 times the fraction of galaxies bright enough for a survey to a limit in magnitude
    (`peculiar.predict.flux_limit`). It says nothing of a survey with other cuts.
a file
    Two columns, `distance_mpc` and `density` in 1/Mpc up to a factor; linear in between, zero
    outside.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import astropy.units as u
import numpy as np
from numpy.typing import NDArray

from peculiar.core.errors import InputError
from peculiar.core.files import json_sha256
from peculiar.core.survey import Measured, Simulated, Unrecorded
from peculiar.mock.distances import distance_density, support_mpc
from peculiar.predict.cells import Cells, number_of, unit_factor
from peculiar.predict.cells_text import read_text
from peculiar.predict.flux_limit import FLUX_LIMITED, SDSS, FluxLimit, limit_named
from peculiar.registry.champion import Champion
from peculiar.velocity.grid import cells_mpc, gaussian, share_between, with_prior

Array = NDArray[np.float64]
NAMES = ("training", "uniform", "volume", FLUX_LIMITED)
COLUMNS = ("distance_mpc", "density")
REACH = 3  # deviations by which the grid of a point head exceeds the training distances


@dataclass(frozen=True)
class DistancePrior:
    """A prior on the distance, up to a factor.

    Attributes
    ----------
    name : str
        One of `NAMES`, or the name of a file.
    D_mpc, density : tuple of float
        Columns of the file, Mpc and 1/Mpc; empty otherwise.
    flux_limit : FluxLimit
        Limit of the prior "flux-limited"; the others do not use it.
    """

    name: str
    D_mpc: tuple[float, ...] = ()
    density: tuple[float, ...] = ()
    flux_limit: FluxLimit = SDSS

    def describe(self, champion: Champion) -> str:
        """Law and parameters, in full, for the first line printed and for metadata."""
        if self.D_mpc:
            digest = json_sha256([self.D_mpc, self.density])[:12]
            ends = f"{self.D_mpc[0]:g} to {self.D_mpc[-1]:g} Mpc"
            return f"{self.name} ({ends}, zero outside; sha256 {digest})"
        if self.name == "training":
            return f"training ({_law_said(champion)})"
        if self.name == FLUX_LIMITED:
            return self.flux_limit.describe()
        return {"volume": "volume (D^2)"}.get(self.name, self.name)


def _law_said(champion: Champion) -> str:
    """Law of the training distances and its parameters; of measured galaxies, how far they go."""
    law = champion.survey.distances.model_dump()
    if isinstance(champion.survey.distances, Measured) and champion.range_mpc:
        law["range_mpc"] = champion.range_mpc
    return ", ".join([law.pop("distribution"), *(f"{key}={law[key]}" for key in law)])


def prior_named(name: str | Path) -> DistancePrior:
    """Give one of the priors `NAMES`, or read one from a file.

    Parameters
    ----------
    name : str or Path
        One of `NAMES`, a limit that `peculiar.predict.flux_limit` reads, or a CSV or ECSV file with
        the columns `COLUMNS`.

    Raises
    ------
    InputError
        When there is no such prior or file, or the file is not a density of distances.
    """
    if name in NAMES:
        return DistancePrior(str(name))
    limit = limit_named(str(name))
    if limit is not None:
        return DistancePrior(FLUX_LIMITED, flux_limit=limit)
    path = Path(name)
    if not path.is_file():
        raise InputError(f"prior {name}: give {', '.join(NAMES)}, or an existing file")
    fields, cells = read_text(path, _columns, COLUMNS)
    rows = list(cells)
    mpc = unit_factor(path, COLUMNS[0], fields[COLUMNS[0]].unit, u.Mpc)
    D, density = _numbers(path, rows, COLUMNS[0]) * mpc, _numbers(path, rows, COLUMNS[1])
    if len(D) < 2 or D[0] <= 0 or (np.diff(D) <= 0).any():
        raise InputError(f"{path}: distance_mpc must be two or more positive, increasing numbers")
    if (density < 0).any() or not density.any():
        raise InputError(f"{path}: density must not be negative, nor zero everywhere")
    return DistancePrior(path.name, tuple(D.tolist()), tuple(density.tolist()))


def _columns(path: Path, names: list[str]) -> dict[str, str]:
    """The file's columns of a prior, each there once."""
    plain = [name.strip() for name in names]
    for name in COLUMNS:
        if name not in plain:
            raise InputError(f"{path} has no column {name}: add it")
        if plain.count(name) > 1:
            raise InputError(f"{path} has the column {name} more than once: keep one")
    return {name: names[plain.index(name)] for name in COLUMNS}


def _numbers(path: Path, rows: Sequence[Cells], column: str) -> Array:
    """Finite numbers of a column."""
    cells = [None if isinstance(row, str) else number_of(row[column]) for row in rows]
    numbers = [cell for cell in cells if cell is not None and isfinite(cell)]
    if len(numbers) < len(cells):
        raise InputError(f"{path}: {column} must have a finite number in every row")
    return np.array(numbers)


def density_on(prior: DistancePrior, champion: Champion, grid_mpc: Array) -> Array:
    """Compute a prior on a grid.

    Parameters
    ----------
    prior : DistancePrior
        From `prior_named`.
    champion : Champion
        Its survey has the law of its training distances, and H0.
    grid_mpc : ndarray, (G,)
        Equally spaced distances, Mpc.

    Returns
    -------
    ndarray, (G,)
        Density, up to a factor.

    Raises
    ------
    InputError
        When the prior is zero on all of the grid, or the champion's law is not recorded.
    """
    if prior.D_mpc:
        found = np.interp(grid_mpc, prior.D_mpc, prior.density, left=0, right=0)
    elif prior.name == "training":
        found = _law(champion, grid_mpc)
    else:
        found = np.ones_like(grid_mpc) if prior.name == "uniform" else grid_mpc**2
        if prior.name == FLUX_LIMITED:
            found = found * prior.flux_limit.fraction(grid_mpc, champion.H0_kms_mpc)
    if not found.any():
        raise InputError(
            f"prior {prior.name} is zero from {grid_mpc[0]:.0f} to {grid_mpc[-1]:.0f} Mpc, all "
            "that the champion knows: give another"
        )
    return np.asarray(found)


def _law(champion: Champion, grid_mpc: Array) -> Array:
    """Law of the training distances on the grid; of measured galaxies, flat as far as they go."""
    law, ends = champion.survey.distances, champion.range_mpc
    if isinstance(law, Simulated):
        return share_between(grid_mpc, *support_mpc(law)) * distance_density(law, grid_mpc)
    if ends is None or (isinstance(law, Unrecorded) and law.was not in ("uniform", "measured")):
        raise InputError(
            f"version {champion.version} does not record the law of its training distances: take "
            "another prior, or another version"
        )
    by = 3 * champion.survey.sigma_z_mpc if champion.survey.measured else 0.0
    return share_between(grid_mpc, ends[0] - by, ends[1] + by)


def default_prior(champion: Champion) -> DistancePrior:
    """Uniform; that of the training images for older champions, which have it in p(D | image)."""
    return DistancePrior("uniform" if champion.grid_mpc is None or champion.flat else "training")


def distance_grid(champion: Champion) -> Array:
    """Distances (G,), Mpc, of p(D | image); for a champion that gives one distance, made here.

    They reach 3 (sigma_v / H0 + sigma_D) beyond its training distances.

    Raises
    ------
    InputError
        When it gives one distance, and its training distances are not recorded.
    """
    if champion.grid_mpc is not None:
        return champion.grid_mpc
    if champion.range_mpc is None:
        raise InputError(
            f"version {champion.version} does not record its training distances: take --prior "
            "uniform"
        )
    sigma_D, sigma_z = champion.sigma_D_mpc, champion.survey.sigma_z_mpc
    (low, high), by = champion.range_mpc, REACH * (sigma_z + sigma_D)
    return cells_mpc((max(low - by, 0.0), high + by), min(sigma_D, sigma_z) / 5)


def prior_ratio(champion: Champion, prior: DistancePrior) -> Array:
    """Ratio (G,) of a prior to that in the champion's p(D | image), on `distance_grid`."""
    grid = distance_grid(champion)
    if champion.flat or champion.grid_mpc is None:
        return density_on(prior, champion, grid)
    if prior.name == "training":
        return np.ones_like(grid)
    law = _law(champion, grid)  # an older champion has it in p(D | image)
    return np.asarray(density_on(prior, champion, grid) / np.where(law > 0, law, np.inf))


def check_prior(champion: Champion, prior: DistancePrior) -> None:
    """Refuse a prior that the champion cannot take; see `density_on` and `distance_grid`."""
    if champion.grid_mpc is not None or prior.name != "uniform":
        prior_ratio(champion, prior)


def distances_given_image(champion: Champion, output: Array, prior: DistancePrior) -> Array:
    """Compute p(D | image) with a prior, on `distance_grid`.

    Parameters
    ----------
    champion : Champion
        For one that gives a distance, p is normal, with its sigma_D.
    output : ndarray, (n,) or (n, G)
        From `peculiar.predict.estimate.outputs`.
    prior : DistancePrior
        From `prior_named`.

    Returns
    -------
    ndarray, (n, G)
        Rows sum to one; NaN where image and prior have no distance in common.
    """
    p = output
    if champion.grid_mpc is None:
        p = gaussian(output, champion.sigma_D_mpc, distance_grid(champion))
    return with_prior(p, prior_ratio(champion, prior))
