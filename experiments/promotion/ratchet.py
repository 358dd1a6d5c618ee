"""How often equal networks displace the champion (the promoted network), and how that flatters it.

Twenty equal networks are trained one after another; after each training the new ones are compared
with the champion on the same validation galaxies, by `peculiar.registry` or by the rule before
decision 0036. No images: errors are drawn. Errors of two trainings on one image correlate, and so
do those of the four views of a galaxy. Run from the top of the repository (a minute):

    .venv/bin/python -m experiments.promotion.ratchet
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from peculiar.registry.paired import share_better
from peculiar.registry.spending import Round, required_share

VIEWS, OF_GALAXY = 4, 0.7  # fraction of an error's variance that all views of a galaxy share
CONFIDENCE, TRAININGS = 0.95, 20
SEED = 20_261_126
Array = NDArray[np.float64]
Rule = Callable[[Round, int], float]


@dataclass(frozen=True)
class Setting:
    """What is assumed of networks and galaxies.

    Attributes
    ----------
    galaxies : int
        Number of validation galaxies.
    correlation : float
        Correlation of the errors of two networks on one image.
    candidates : int
        Networks trained and compared at a time.
    heavy : bool
        Errors have Student's distribution with 4 degrees of freedom (one scale a galaxy), in place
        of a normal one.
    """

    galaxies: int = 50
    correlation: float = 0.85
    candidates: int = 1
    heavy: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of the champion in many repetitions.

    Attributes
    ----------
    displaced, displaced_error : float
        Probability that it lost its place at least once, and its standard error.
    flattered, flattered_error : float
        Mean decrease of the champion's validation rms, relative, with its standard error. All
        networks are equal, so all of it is chance.
    """

    displaced: float
    displaced_error: float
    flattered: float
    flattered_error: float


def before(round_: Round, galaxies: int) -> float:
    """Share required until decision 0036: the same for every comparison."""
    del galaxies
    return 1 - (1 - CONFIDENCE) / len(round_.candidates)


def after(round_: Round, galaxies: int) -> float:
    """Share required now."""
    return required_share(round_, CONFIDENCE, galaxies)


def comparison(number: int, candidates: int) -> Round:
    """A comparison of a few candidates on the validation set of the simulation."""
    names = tuple(str(i) for i in range(candidates))
    return Round(data="drawn", number=number, holder="champion", candidates=names)


def squared_errors(
    setting: Setting, networks: int, repetitions: int, rng: np.random.Generator
) -> Array:
    """Draw squared errors of equal networks, summed over the views of each galaxy.

    Returns
    -------
    ndarray, (networks, repetitions, galaxies)
        In the unit of the variance of an error.
    """

    def normal(networks: int) -> Array:
        shape = networks, repetitions, setting.galaxies
        views: Array = rng.normal(size=(*shape, VIEWS)) * np.sqrt(1 - OF_GALAXY)
        views += rng.normal(size=(*shape, 1)) * np.sqrt(OF_GALAXY)
        return views

    rho = setting.correlation
    errors = np.sqrt(rho) * normal(1) + np.sqrt(1 - rho) * normal(networks)
    squares: Array = np.sum(errors**2, axis=3)
    if setting.heavy:
        squares *= 2 / rng.chisquare(4, size=(repetitions, setting.galaxies))
    return squares


def passes(difference: Array, required: float) -> NDArray[np.bool_]:
    """Whether a candidate is better than the champion in more than a share of the samples.

    Parameters
    ----------
    difference : ndarray, (repetitions, galaxies)
        Squared errors of the candidate less those of the champion.
    required : float
        The share.

    Returns
    -------
    ndarray of bool, (repetitions,)
    """
    deviate = -difference.mean(axis=1) / difference.std(axis=1) * np.sqrt(difference.shape[1])
    won = np.zeros(len(difference), dtype=bool)
    # the rest is far from the share, which takes a millisecond each
    for i in np.flatnonzero(deviate > 0.5 * norm.ppf(required)):
        won[i] = share_better(difference[i]) > required
    return won


def ratchet(
    setting: Setting,
    rule: Rule,
    repetitions: int,
    rng: np.random.Generator,
    trainings: int = TRAININGS,
) -> Outcome:
    """Train equal networks one after another, and promote those that pass."""
    k = setting.candidates
    squares = squared_errors(setting, 1 + trainings * k, repetitions, rng)
    champion = squares[0].copy()
    displaced = np.zeros(repetitions, dtype=bool)
    for number in range(1, trainings + 1):
        required = rule(comparison(number, k), setting.galaxies)
        best = champion.copy()
        for candidate in squares[1 + (number - 1) * k : 1 + number * k]:
            better = candidate.sum(axis=1) < best.sum(axis=1)
            takes = better.copy()
            takes[better] = passes(candidate[better] - champion[better], required)
            best[takes] = candidate[takes]
            displaced |= takes
        champion = best
    gain = 1 - np.sqrt(champion.sum(axis=1) / squares[0].sum(axis=1))
    p = float(displaced.mean())
    return Outcome(
        p,
        float(np.sqrt(p * (1 - p) / repetitions)),
        float(gain.mean()),
        float(gain.std(ddof=1) / np.sqrt(repetitions)),
    )


def advantage_needed(
    setting: Setting, required: list[float], repetitions: int, rng: np.random.Generator
) -> Array:
    """By which fraction a network's errors must be less so that it is promoted.

    Parameters
    ----------
    setting : Setting
        Its `candidates` are not used.
    required : list of float, (r,)
        Shares of the bootstrap samples.
    repetitions : int
        Number of draws of the galaxies.

    Returns
    -------
    ndarray, (repetitions, r)
        In each draw: 1 less the ratio of the rms errors. Quantiles of it are the advantages with
        which a network is promoted with that probability.
    """
    champion, candidate = squared_errors(setting, 2, repetitions, rng)
    fractions = np.linspace(-0.4, 0.6, 41)
    needed = np.empty((repetitions, len(required)))
    for i in range(repetitions):
        shares = [share_better((1 - f) ** 2 * candidate[i] - champion[i]) for f in fractions]
        # the share rises with the advantage; its normal deviate is nearly linear
        deviates = np.maximum.accumulate(norm.ppf(np.clip(shares, 1e-15, 1 - 1e-15)))
        needed[i] = np.interp(norm.ppf(required), deviates, fractions)
    return needed


def displacement_rows(repetitions: int) -> list[str]:
    """Table of the ratchet, before and after."""
    settings = [
        *(Setting(correlation=rho, candidates=k) for rho in (0.7, 0.95) for k in (1, 3)),
        Setting(heavy=True),
        Setting(heavy=True, candidates=3),
        Setting(galaxies=125),
    ]
    rows = [
        "| galaxies | correlation | errors | candidates | displaced, before | now "
        "| rms flattered, before [%] | now [%] |",
        "|" + "---|" * 8,
    ]
    for s in settings:
        two = [
            ratchet(s, rule, repetitions, np.random.default_rng(SEED)) for rule in (before, after)
        ]
        cells = [f"{o.displaced:.3f} ± {o.displaced_error:.3f}" for o in two]
        cells += [f"{100 * o.flattered:.2f} ± {100 * o.flattered_error:.2f}" for o in two]
        errors = "Student, 4" if s.heavy else "normal"
        first = f"| {s.galaxies} | {s.correlation} | {errors} | {s.candidates} | "
        rows.append(first + " | ".join(cells) + " |")
    return rows


def power_rows(repetitions: int) -> list[str]:
    """Table of the advantage with which a network is promoted with probability 0.5 and 0.8."""
    numbers = (1, 5, 20, 100)
    rows = [
        "| galaxies | correlation | before | "
        + " | ".join(f"now, comparison {number}" for number in numbers)
        + " |",
        "|" + "---|" * (3 + len(numbers)),
    ]
    for galaxies in (50, 125):
        for rho in (0.7, 0.85, 0.95):
            setting = Setting(galaxies=galaxies, correlation=rho)
            required = [before(comparison(1, 1), galaxies)]
            required += [after(comparison(number, 1), galaxies) for number in numbers]
            rng = np.random.default_rng(SEED)
            needed = advantage_needed(setting, required, repetitions, rng)
            ends = np.quantile(needed, [0.5, 0.8], axis=0).T
            cells = [f"{half:.1%}, {most:.1%}" for half, most in ends]
            rows.append(f"| {galaxies} | {rho} | " + " | ".join(cells) + " |")
    return rows


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repetitions", type=int, default=1000, help="of the twenty trainings")
    chosen = parser.parse_args()
    print("\n".join(displacement_rows(chosen.repetitions)), flush=True)
    print("\n" + "\n".join(power_rows(max(chosen.repetitions // 5, 2))))


if __name__ == "__main__":
    main()
