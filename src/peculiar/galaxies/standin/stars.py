"""Draw the star particles of a stand-in galaxy: masses, positions, ages and light."""

from functools import cache
from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator

from peculiar.core.photometry import BANDS, flux_density

Floats = NDArray[np.float64]
SSP_TABLE = Path(__file__).with_name("ssp_ugriz.ecsv")
YOUNG_YR = 1e8


def draw_log10_mass(rng: np.random.Generator, lowest: float, highest: float) -> float:
    """Draw a stellar mass, log10(M*/Msun), after Baldry et al. (2012, MNRAS 421, 621, eq. 6).

    `lowest` and `highest` are its limits, also in log10(M*/Msun).
    """
    log_mass = np.linspace(lowest, highest, 2001)
    x = 10 ** (log_mass - 10.66)
    per_dex = np.exp(-x) * (3.96 * x ** (1 - 0.35) + 0.79 * x ** (1 - 1.47))
    cumulative = np.concatenate([[0], np.cumsum(per_dex[1:] + per_dex[:-1])])
    return float(np.interp(rng.random(), cumulative / cumulative[-1], log_mass))


def red_fraction(log10_mass: float) -> float:
    """Fraction of galaxies in the red class: 1/2 at 10.6 (compare Baldry et al. 2006, fig. 11)."""
    return float(1 / (1 + np.exp(-(log10_mass - 10.6) / 0.3)))


def shen_size(log10_mass: float, red: bool) -> tuple[float, float]:
    """Median half-light radius, kpc, and its scatter in ln R (Shen et al. 2003, MNRAS 343, 978).

    Equations 17 (early, with b of the 2007 erratum), 18 and 19 (late types, and the scatter).
    """
    mass, x = 10**log10_mass, 10**log10_mass / 3.98e10
    late = 0.1 * mass**0.14 * (1 + x) ** (0.39 - 0.14)
    return (2.88e-6 * mass**0.56 if red else late), 0.34 + (0.47 - 0.34) / (1 + x**2)


def star_formation_rate(log10_mass: float, red: bool, deviation: float) -> float:
    """Star formation rate, Msun/yr (Elbaz et al. 2007, A&A 468, 33, eq. 5); 2 dex less if red.

    `deviation` is the offset from the main sequence in units of its scatter of 0.3 dex.
    """
    return float(8.7 * 10 ** (0.77 * (log10_mass - 11) + 0.3 * deviation - (2.0 if red else 0.0)))


def _bulge(rng: np.random.Generator, n: int, flattening: float) -> Floats:
    """Hernquist (1990, ApJ 356, 359) sphere cut at 20 scale radii: (n, 3) in half-light radii."""
    root = np.sqrt(rng.random(n)) * 20 / 21
    direction = rng.normal(size=(n, 3))
    direction *= (root / (1 - root) / 1.8153 / np.linalg.norm(direction, axis=1))[:, None]
    return np.asarray(direction * [1, 1, flattening])


def _disc(radius: Floats, angle: Floats, height: Floats) -> Floats:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=1)


def _spread(rng: np.random.Generator, n: int, thickness: float) -> Floats:
    """Draw heights (n,) in a sech^2 disc (van der Kruit & Searle 1981), unit of `thickness`."""
    return thickness * np.arctanh(rng.uniform(-0.9999, 0.9999, n))


def old_stars(
    rng: np.random.Generator, n: int, red: bool, arms: tuple[int, float]
) -> tuple[Floats, NDArray[np.bool_]]:
    """Draw the old stars of bulge and disc.

    Bulge fractions and sizes by class are rounded from Simard et al. (2011, ApJS 196, 11).

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    n : int
        Number of stars.
    red : bool
        Whether the galaxy is in the red class.
    arms : tuple
        Number of spiral arms, and their pitch angle, rad.

    Returns
    -------
    position : ndarray, (n, 3)
        Positions in disc scale lengths.
    in_bulge : ndarray of bool, (n,)
        Which stars belong to the bulge.
    """
    fraction = np.clip(rng.normal(*((0.65, 0.15) if red else (0.2, 0.1))), 0.03, 0.95)
    in_bulge = np.arange(n) < fraction * n
    bulge_size = 1.678 * (0.8 if red else 0.3) * rng.lognormal(0, 0.2)
    bulge = bulge_size * _bulge(rng, int(in_bulge.sum()), rng.uniform(0.5 if red else 0.7, 1))
    radius = rng.gamma(2, size=n - len(bulge))
    angle = rng.uniform(0, 2 * np.pi, len(radius))
    # moving a uniform angle towards the arm makes the density proportional to 1 / (1 - c cos)
    contrast = (0.1 if red else rng.uniform(0.4, 0.8)) * radius**2 / (radius**2 + 0.5)
    from_arm = arms[0] * (angle - _arm_angle(radius, arms[1]))
    angle -= contrast / arms[0] * np.sin(from_arm)
    disc = _disc(radius, angle, _spread(rng, len(radius), 0.2))
    return np.concatenate([bulge, disc]), in_bulge


def _arm_angle(radius: Floats, pitch: float) -> Floats:
    """Azimuth, rad, of a logarithmic spiral at `radius` in disc scale lengths."""
    return np.asarray(np.log(radius + 0.05) / np.tan(pitch))


def young_stars(
    rng: np.random.Generator, n: int, scale_kpc: float, arms: tuple[int, float]
) -> Floats:
    """Draw young stars along the arms: positions (n, 3), kpc, for a disc of scale `scale_kpc`.

    Two thirds are in clumps of 0.3 to 0.8 kpc (twice the deviation); the others are single. `arms`
    is as in `old_stars`.
    """
    clumps = 1 + n // 8
    centres = clumps + n  # first of the clumps, then of the single stars
    radius = rng.gamma(4, 0.5, centres)
    angle = _arm_angle(radius, arms[1]) + rng.normal(0, 0.4 / arms[0], centres)
    angle += 2 * np.pi / arms[0] * rng.integers(arms[0], size=centres)
    centre = scale_kpc * _disc(radius, angle, _spread(rng, centres, 0.05))
    clump = (clumps * rng.random(n) ** 1.5).astype(int)  # a few rich clumps, many poor ones
    member = np.where(rng.random(n) < 2 / 3, clump, clumps + np.arange(n))
    width = rng.uniform(0.15, 0.4, centres)
    return np.asarray(centre[member] + width[member, None] * rng.normal(size=(n, 3)))


@cache
def _ssp() -> RegularGridInterpolator:
    """Absolute magnitudes in `BANDS` of 1 Msun over log10(Z/Z_sun) and log10(age/yr)."""
    table = Table.read(SSP_TABLE, format="ascii.ecsv")
    metallicity, age = np.unique(table["metallicity"]), np.unique(table["log_age"])
    mags = np.stack([np.asarray(table[f"M_{band}"]) for band in BANDS], axis=-1)
    return RegularGridInterpolator(
        (np.log10(metallicity), age), mags.reshape(len(metallicity), len(age), len(BANDS))
    )


def starlight(log_age: Floats, log_metallicity: Floats, mass_msun: float) -> Floats:
    """Compute the light of simple stellar populations (Bruzual & Charlot 2003).

    Parameters
    ----------
    log_age, log_metallicity : ndarray, (particle,)
        log10(age/yr) and log10(Z/Z_sun), clipped to the range of the table.
    mass_msun : float
        Mass of a particle, Msun.

    Returns
    -------
    ndarray, (band, particle)
        f_lambda at 10 pc, W/m^2/m.
    """
    grid = _ssp().grid
    at = [np.clip(x, g[0], g[-1]) for x, g in zip((log_metallicity, log_age), grid, strict=True)]
    mags = _ssp()(np.stack(at, axis=-1)).T
    return mass_msun * np.stack([flux_density(m, b) for m, b in zip(mags, BANDS, strict=True)])


def populations(
    rng: np.random.Generator, log10_mass: float, red: bool, in_bulge: NDArray[np.bool_], k: float
) -> tuple[Floats, Floats]:
    """Draw log10(age/yr) and log10(Z/Z_sun) of the old stars, each (particle,).

    Medians are rounded from Gallazzi et al. (2005, MNRAS 362, 41, table 2), who combine both
    classes. Discs are younger and of lower metallicity than bulges. The scatter is 0.2 dex within a
    galaxy, and 0.1 dex times `k` between galaxies.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    log10_mass : float
        log10(M*/Msun) of the galaxy.
    red : bool
        Whether the galaxy is in the red class.
    in_bulge : ndarray of bool, (particle,)
        From `old_stars`.
    k : float
        Factor on the scatter between galaxies.

    Returns
    -------
    log_age, log_metallicity : ndarray, (particle,)
        log10(age/yr) and log10(Z/Z_sun).
    """
    mass = [10.0, 10.5, 11.0, 11.5, 12.0]
    age = np.interp(log10_mass, mass, [9.45, 9.60, 9.75, 9.85, 9.90]) + (0.1 if red else 0.0)
    metallicity = np.interp(log10_mass, mass, [-0.3, -0.05, 0.08, 0.13, 0.15])
    age, metallicity = np.array([age, metallicity]) + k * rng.normal(0, 0.1, 2)
    younger, n = (0.05 if red else 0.15), len(in_bulge)
    log_age = rng.normal(age + np.where(in_bulge, younger, -younger), 0.2)
    log_z = rng.normal(metallicity + np.where(in_bulge, 0.05, -0.1), 0.2, n)
    return np.clip(log_age, np.log10(YOUNG_YR), 10.13), log_z
