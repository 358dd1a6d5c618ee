"""A survey to a limit in magnitude: which fraction of the galaxies at a distance it sees."""

import re
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import exp1, gamma, gammaincc

from peculiar.core.errors import InputError
from peculiar.predict.cells import number_of

Array = NDArray[np.float64]
FLUX_LIMITED = "flux-limited"
GIVEN = re.compile(rf"{FLUX_LIMITED}\s*\((.*)\)\s*")
BOUNDS = {"limit": (0.0, 40.0), "M_star": (-30.0, 0.0), "alpha": (-1.99, 2.0)}
"""Least and greatest limit in magnitude, M* - 5 log h, and exponent."""


@dataclass(frozen=True)
class FluxLimit:
    """A limit in magnitude, and the luminosity function of the galaxies (Schechter 1976, ApJ 203).

    By default SDSS' main sample, r < 17.77 (Strauss et al. 2002, AJ 124, 1810), and its luminosity
    function in r (Blanton et al. 2003, ApJ 592, 819).

    Attributes
    ----------
    limit : float
        Faintest magnitude of the survey, mag.
    M_star : float
        M* - 5 log10 h in the same band, h = H0 / (100 km/s/Mpc), mag.
    alpha : float
        Exponent of the function at faint luminosities.
    """

    limit: float = 17.77
    M_star: float = -20.44
    alpha: float = -1.05

    def describe(self) -> str:
        """The limit and the function as `limit_named` reads them, in full."""
        given = ", ".join(f"{key}={value}" for key, value in asdict(self).items())
        return f"{FLUX_LIMITED}({given})"

    def fraction(self, D_mpc: Array, H0_kms_mpc: float) -> Array:
        """Compute the number of galaxies bright enough to be seen at a distance, up to a factor.

        The incomplete gamma function of alpha + 1 and of the least luminosity seen over L*.
        Without K-corrections (of old stars 0.19 mag in u, 0.13 in g, 0.05 in r at 150 Mpc), and at
        the distance D, not the luminosity distance D (1 + z), which dims by 5 log10(1 + z), 0.08
        mag at 150 Mpc. The survey so seems to reach a little farther than it does.

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
        M_star = self.M_star + 5 * np.log10(H0_kms_mpc / 100)
        x = 10 ** (-0.4 * (self.limit - 5 * np.log10(D_mpc) - 25 - M_star))
        a = self.alpha + 1
        if abs(a) < 1e-6:
            return np.asarray(exp1(x))
        if a > 0:
            return np.asarray(gammaincc(a, x) * gamma(a))
        # by the recurrence from a + 1
        upper = gammaincc(a + 1, x) * gamma(a + 1)
        return np.asarray(np.maximum((upper - x**a * np.exp(-x)) / a, 0))


SDSS = FluxLimit()


def limit_named(text: str) -> FluxLimit | None:
    """Read a limit such as flux-limited(limit=17.77, M_star=-20.44, alpha=-1.05).

    Parameters
    ----------
    text : str
        A prior's name. Values that are not in it are those of SDSS' main sample.

    Returns
    -------
    FluxLimit or None
        None where the text is no such limit.

    Raises
    ------
    InputError
        When a value is none, unknown, there twice, or out of its bounds.
    """
    found = GIVEN.fullmatch(text.strip())
    if found is None:
        return SDSS if text.strip() == FLUX_LIMITED else None
    values: dict[str, float] = {}
    for piece in filter(None, (piece.strip() for piece in found[1].split(","))):
        key, equals, cell = (part.strip() for part in piece.partition("="))
        value = number_of(cell)
        if not equals or key not in BOUNDS or key in values:
            raise InputError(f"prior {text}: write each of limit, M_star and alpha once, as NAME=X")
        least, most = BOUNDS[key]
        if value is None or not least <= value <= most:
            raise InputError(
                f"prior {text}: {key} must be a number from {least:g} to {most:g}, not {cell!r}"
            )
        values[key] = value
    return FluxLimit(**values)
