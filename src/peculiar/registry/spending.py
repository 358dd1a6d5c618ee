"""Spend the probability of a false promotion over all comparisons on one validation set.

Each comparison alone is fair: an equal network beats the champion (the promoted model) with
probability alpha = 1 - confidence. Many comparisons on the same galaxies are not: one of them
succeeds by chance, and the next must beat a score that chance made better (a ratchet). So the t-th
comparison on a validation set may err with probability alpha / (t (t + 1)) only. These add up to
alpha, however many follow (alpha spending; Foster & Stine 2008, JRSS B 70, 429, call such rules
alpha investing). Candidates of one call of `promote` are one comparison and share its part equally.
"""

import math
from collections.abc import Sequence

from pydantic import PositiveInt
from scipy.stats import norm, t

from peculiar.core.params import Section


class Round(Section):
    """One comparison: candidates that were compared with one champion at the same time.

    Attributes
    ----------
    data : str
        Digest of the dataset, which stands for its validation split.
    number : int
        1 for the first comparison on this validation set, 2 for the next.
    holder : str
        Run of the champion.
    candidates : tuple of str
        Runs of the candidates.
    """

    data: str
    number: PositiveInt
    holder: str
    candidates: tuple[str, ...]


def probability_spent(number: int, confidence: float) -> float:
    """Probability of a false promotion that a comparison may spend.

    Parameters
    ----------
    number : int
        1 for the first comparison on a validation set.
    confidence : float
        1 less the probability of a false promotion in all comparisons together.
    """
    return (1 - confidence) / (number * (number + 1))


def required_share(round_: Round, confidence: float, galaxies: int) -> float:
    """Share of the bootstrap samples in which a candidate must be better, and in more than it.

    A percentile of bootstrap samples corresponds to a normal deviate and to a variance with divisor
    n; both make a test of few galaxies too lenient. The share is that whose deviate is Student's,
    sqrt(n / (n - 1)) t (Hesterberg 2015, The American Statistician 69, 371, section 5.3).

    Parameters
    ----------
    round_ : Round
        The comparison.
    confidence : float
        As in `probability_spent`.
    galaxies : int
        Number n of validation galaxies.

    Returns
    -------
    float
        Less than 1; 1, which nothing exceeds, where so few galaxies cannot show it any more.
    """
    if galaxies < 2:
        return 1.0
    spent = probability_spent(round_.number, confidence) / len(round_.candidates)
    deviate = math.sqrt(galaxies / (galaxies - 1)) * t.isf(spent, galaxies - 1)
    return float(norm.cdf(deviate))


def rounds_of(
    ledger: Sequence[Round], data: str, holder: str, candidates: Sequence[str]
) -> dict[str, Round]:
    """Comparison in which each candidate meets a champion.

    Two runs that met before are in the comparison of that time, so that promoting again spends
    nothing. The others are together in the next one.

    Parameters
    ----------
    ledger : sequence of Round
        Comparisons so far.
    data, holder : str
        Digest of the dataset, and run of the champion.
    candidates : sequence of str
        Runs of the candidates.

    Returns
    -------
    dict of str to Round
        By candidate.
    """
    here = [one for one in ledger if one.data == data]
    known = {run: one for one in here if one.holder == holder for run in one.candidates}
    new = tuple(run for run in candidates if run not in known)
    if new:
        number = 1 + max((one.number for one in here), default=0)
        opened = Round(data=data, number=number, holder=holder, candidates=new)
        known |= dict.fromkeys(new, opened)
    return {run: known[run] for run in candidates}


def percent(share: float) -> str:
    """A share as text, with enough digits to tell it from 100%."""
    rest = 100 * (1 - share)
    if not 0 < rest < 1:
        return f"{share:.2%}"
    digits = 1 - math.floor(math.log10(rest))
    return f"{100 * share:.{digits}f}%"
