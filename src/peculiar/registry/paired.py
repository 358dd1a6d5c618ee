"""Compare two networks on the same images by a paired bootstrap over galaxies.

In each sample both networks are measured on the same galaxies. Errors of the four views of a galaxy
are correlated, and so are those of two networks on one galaxy; separate errors of the two networks
would include neither.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

from peculiar.runs.record import Predicted

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Paired:
    """Comparison of two networks on the same images.

    Attributes
    ----------
    difference : float
        Score of the first minus that of the second; negative if the first is better.
    low, high : float
        Ends of the central 95 per cent interval of the difference over bootstrap samples.
    share : float
        Fraction of all possible bootstrap samples in which the first is better (`share_better`).
    galaxies : int
        Number of galaxies.
    """

    difference: float
    low: float
    high: float
    share: float
    galaxies: int


def same_images(one: Predicted, other: Predicted) -> bool:
    """Whether two `validation.ecsv` have the same images and D_z, in the same order."""
    return all(
        np.array_equal(one[column], other[column]) for column in ("galaxy", "camera", "D_z_mpc")
    )


def squared_errors(predicted: Predicted, metric: str) -> Array:
    """Sum over the views of each galaxy of the squared errors that a metric averages.

    Parameters
    ----------
    predicted : dict of str to ndarray, (n,)
        A `validation.ecsv`.
    metric : str
        Metric from `selection.criterion`, a root mean square.

    Returns
    -------
    ndarray, (g,)
        One sum per galaxy, in the order of the galaxies' numbers.
    """
    true, estimate = {
        "l2_dz_mpc": ("D_z_mpc", "D_p_mpc"),
        "posterior_rms_kms": ("v_kms", "v_hat_kms"),
    }[metric]
    _, galaxy = np.unique(predicted["galaxy"], return_inverse=True)
    squared = (predicted[true] - predicted[estimate]) ** 2
    return np.bincount(galaxy, weights=squared).astype(np.float64)


def share_better(difference: Array) -> float:
    """Share of all bootstrap samples of galaxies in which the first network is better.

    Both rms of a sample are over the same images. The first is better where the sum over the
    sample's galaxies of its squared errors less the second's is negative. The share is the
    probability of that for galaxies drawn with replacement, by the saddlepoint approximation of
    Lugannani & Rice (1980, Adv. Appl. Prob. 12, 475; for the bootstrap Davison & Hinkley 1988,
    Biometrika 75, 417). It needs no samples and holds far out, where drawn samples would have to be
    millions: share and remainder have relative errors of a few per cent, and are less exact where
    one galaxy outweighs the others together.

    Parameters
    ----------
    difference : ndarray, (g,)
        Squared errors of the first network less those of the second, summed over each galaxy.

    Returns
    -------
    float
        Samples with equal scores count as not better.
    """
    n = len(difference)
    worse, better = difference[difference > 0], -difference[difference < 0]
    if not len(better):
        return 0.0
    if not len(worse):  # only a sample of equal galaxies alone is not better
        return float(1 - (1 - len(better) / n) ** n)
    x = difference / np.abs(difference).max()
    at = _tilt(x)
    w = np.sign(at) * np.sqrt(max(-2 * n * (_log_sum(at * x) - np.log(n)), 0.0))
    if abs(w) < 1e-3:  # the limit of what follows, which is 0 / 0 there
        skewness = np.mean((x - x.mean()) ** 3) / np.std(x) ** 3
        deviate = -np.mean(x) / np.std(x) * np.sqrt(n)
        return float(norm.cdf(deviate) + skewness / (6 * np.sqrt(2 * np.pi * n)))
    u = at * np.sqrt(n * np.average(x**2, weights=np.exp(at * x - (at * x).max())))
    not_better = norm.sf(w) - norm.pdf(w) * (1 / w - 1 / u)
    return float(np.clip(1 - not_better, 0.0, 1.0))


def _tilt(x: Array) -> float:
    """The lambda for which sum(x exp(lambda x)) = 0, where x have both signs."""
    up, down = x[x > 0], x[x < 0]
    log_up, log_down = np.log(up), np.log(-down)

    def unbalanced(at: float) -> float:
        return _log_sum(log_up + at * up) - _log_sum(log_down + at * down)

    end = 1.0
    while unbalanced(end) < 0 or unbalanced(-end) > 0:
        end *= 2
    return float(brentq(unbalanced, -end, end, xtol=1e-12))


def _log_sum(logarithms: Array) -> float:
    """log(sum(exp(x))), faster than scipy's for few numbers."""
    greatest = float(logarithms.max())
    return greatest + math.log(np.exp(logarithms - greatest).sum())


def pair(
    one: Predicted, other: Predicted, metric: str, samples: int, rng: np.random.Generator
) -> Paired:
    """Compare two networks by a paired bootstrap over galaxies.

    Parameters
    ----------
    one, other : dict of str to ndarray, (n,)
        Their `validation.ecsv`, of the same images.
    metric : str
        Metric from `selection.criterion`.
    samples : int
        Number of bootstrap samples for the interval of the difference.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    Paired
    """
    squares = np.stack([squared_errors(predicted, metric) for predicted in (one, other)])
    _, views = np.unique(one["galaxy"], return_counts=True)
    draws = rng.integers(len(views), size=(samples, len(views)))
    drawn = np.sqrt(squares[:, draws].sum(axis=2) / views[draws].sum(axis=1))
    low, high = np.quantile(drawn[0] - drawn[1], [0.025, 0.975])
    scores = np.sqrt(squares.sum(axis=1) / views.sum())
    share = share_better(squares[0] - squares[1])
    return Paired(float(scores[0] - scores[1]), float(low), float(high), share, len(views))
