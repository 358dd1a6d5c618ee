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
    (`brighter_fraction`). It says nothing of a survey with other cuts.
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
from scipy.special import gamma, gammaincc

from peculiar.core.errors import InputError
from peculiar.core.survey import Simulated, Unrecorded
from peculiar.mock.distances import distance_density, support_mpc
from peculiar.predict.cells import Cells, number_of, unit_factor
from peculiar.predict.cells_text import read_text
from peculiar.registry.champion import Champion
from peculiar.velocity.grid import cells_mpc, gaussian, share_between, with_prior

Array = NDArray[np.float64]
NAMES = ("training", "uniform", "volume", "flux-limited")
COLUMNS = ("distance_mpc", "density")
REACH = 3  # deviations by which the grid of a point head exceeds the training distances
# SDSS' main sample, r < 17.77 (Strauss et al. 2002, AJ 124, 1810); its luminosity function in
# r, at h = 1 (Blanton et al. 2003, ApJ 592, 819); shape: Schechter 1976, ApJ 203, 297
LIMIT_MAG, MSTAR_MAG, ALPHA = 17.77, -20.44, -1.05


@dataclass(frozen=True)
class DistancePrior:
    """A prior on the distance, up to a factor.

    Attributes
    ----------
    name : str
        One of `NAMES`, or the name of a file.
    D_mpc, density : tuple of float
        Columns of the file, Mpc and 1/Mpc; empty otherwise.
    """

    name: str
    D_mpc: tuple[float, ...] = ()
    density: tuple[float, ...] = ()

    def describe(self) -> str:
        """Name and parameters, for the first line printed."""
        if self.D_mpc:
            return f"{self.name} ({self.D_mpc[0]:g} to {self.D_mpc[-1]:g} Mpc, zero outside)"
        if self.name == "flux-limited":
            return (
                f"{self.name} (r < {LIMIT_MAG}, M* - 5 log h = {MSTAR_MAG}, alpha = {ALPHA}; "
                "Blanton+2003)"
            )
        return self.name


def prior_named(name: str | Path) -> DistancePrior:
    """Give one of the priors `NAMES`, or read one from a file.

    Parameters
    ----------
    name : str or Path
        One of `NAMES`, or a CSV or ECSV file with the columns `COLUMNS`.

    Raises
    ------
    InputError
        When there is no such prior or file, or the file is not a density of distances.
    """
    if name in NAMES:
        return DistancePrior(str(name))
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


def brighter_fraction(D_mpc: Array, H0_kms_mpc: float) -> Array:
    """Compute the number of galaxies bright enough to be seen at a distance, up to a factor.

    A Schechter function with exponent `ALPHA` above the luminosity that has `LIMIT_MAG` at the
    distance: the incomplete gamma function of ALPHA + 1 and L / L*. Without K-corrections, which
    are below 0.1 mag within 200 Mpc.

    Parameters
    ----------
    D_mpc : ndarray, any shape
        Distances, above 0, Mpc.
    H0_kms_mpc : float
        Hubble constant, on which M* depends, km/s/Mpc.

    Returns
    -------
    ndarray, same shape
    """
    M_star = MSTAR_MAG + 5 * np.log10(H0_kms_mpc / 100)
    x = 10 ** (-0.4 * (LIMIT_MAG - 5 * np.log10(D_mpc) - 25 - M_star))
    a = ALPHA + 1  # negative, so by the recurrence from a + 1
    upper = gammaincc(a + 1, x) * gamma(a + 1)
    return np.asarray(np.maximum((upper - x**a * np.exp(-x)) / a, 0))


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
        if prior.name == "flux-limited":
            found = found * brighter_fraction(grid_mpc, champion.H0_kms_mpc)
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
