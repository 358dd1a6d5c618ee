"""Compare candidates with the present champion (the promoted model) on the same validation images.

The comparison is a paired bootstrap over galaxies (`velocity.metrics.bootstrap_rows`): in each
sample both networks are measured on the same galaxies. A candidate must be better in a large
enough share of the samples. Errors of the four views of a galaxy are correlated, and so are those
of two networks on one galaxy; separate errors of the two networks would include neither.
"""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from peculiar.runs.record import Predicted, Run
from peculiar.velocity.metrics import METRICS, bootstrap_rows, l2

# reasons that exclude a candidate unless `--allow` names them
ALLOWABLE = {
    "other-data": "{holder} was validated on other images, which allow no comparison",
    "leaking-split": "its splits share galaxies (split_by: image)",
    "literal-dimming": "its images have the distance printed into the pixels (dimming: literal)",
    "withdrawn": "it was rolled back",
}


@dataclass(frozen=True)
class Holder:
    """The version that holds an alias.

    Attributes
    ----------
    version, run_id : str
        Number of the version, and run that trained it.
    data : str
        Digest of the dataset of its training and validation.
    validation : dict or None
        Its `validation.ecsv`; None if lost.
    """

    version: str
    run_id: str
    data: str
    validation: Predicted | None


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
        Fraction of the bootstrap samples in which the first is better.
    """

    difference: float
    low: float
    high: float
    share: float


@dataclass(frozen=True)
class Candidate:
    """A trained network that may become champion.

    Attributes
    ----------
    run : Run
        Its `run.json`, with metrics on the validation split.
    validation : dict or None
        Its `validation.ecsv`.
    against : str or None
        Why it cannot be promoted; None if it can.
    paired : Paired or None
        Comparison with the holder of the alias; None if they were not compared.
    """

    run: Run
    validation: Predicted | None = None
    against: str | None = None
    paired: Paired | None = None

    @property
    def name(self) -> str:
        """Dataset and network, for example "uniform-cnn3"."""
        return f"{self.run.survey.dataset}-{self.run.network}"

    @property
    def score(self) -> float:
        """Value of `criterion` on the validation split; infinite if unknown."""
        score = self.run.validation.get(criterion(self.run), math.inf)
        return score if math.isfinite(score) else math.inf


def criterion(run: Run) -> str:
    """Metric on the validation split by which networks are compared; smaller is better.

    For measured distances it is L2 on D_z, since no true velocity is known.
    """
    return "l2_dz_mpc" if run.survey.distribution == "measured" else "posterior_rms_kms"


def baseline(run: Run) -> tuple[str, float]:
    """Name and score of the prediction without images that a network must beat."""
    if run.survey.distribution != "measured":
        return "v = 0", run.zero_rms_kms
    return "a constant distance", run.spread_dz_mpc


def data_digest(run: Run) -> str:
    """Digest of the observed dataset of a network's training and validation."""
    return run.data[f"data/observe/{run.survey.dataset}"]


def alias_of_kind(run: Run) -> str:
    """Alias of the best network for one kind of data, for example "champion-uniform-stand-in".

    MLflow allows letters, digits, "_" and "-"; other characters become "-".
    """
    return re.sub(
        r"[^\w-]+", "-", f"champion-{run.survey.dataset}-{run.survey.source}", flags=re.ASCII
    )


def refusal(run: Run, tested: Mapping[str, float] | None) -> str | None:
    """State why a network cannot be promoted, even with `--allow`.

    Parameters
    ----------
    run : Run
        The candidate, with its metrics on the validation split.
    tested : mapping or None
        Its metrics on the test split. They must exist and be finite; their values are not
        compared, so the test split does not influence the choice.

    Returns
    -------
    str or None
        The reason; None if the network may be promoted.
    """
    for split, metrics in (("validation", run.validation), ("test", tested or {})):
        missing = [key for key in METRICS if key not in metrics]
        if missing:
            return f"its {split} metrics lack {', '.join(missing)}"
        required = [criterion(run)] if run.survey.distribution == "measured" else METRICS
        broken = [key for key in required if not math.isfinite(metrics[key])]
        if broken:
            return f"its {split} metrics {', '.join(broken)} are not finite"
    rms, (name, least) = run.validation[criterion(run)], baseline(run)
    if rms >= least:
        return f"its {criterion(run)} {rms:.1f} does not beat {name}, {least:.1f}"
    return None


def score_of(predicted: Predicted, metric: str, rows: NDArray[np.intp]) -> float:
    """Score by a metric from `criterion`, over some rows of `validation.ecsv`."""
    true, estimate = {
        "l2_dz_mpc": ("D_z_mpc", "D_p_mpc"),
        "posterior_rms_kms": ("v_kms", "v_hat_kms"),
    }[metric]
    return l2(predicted[true][rows], predicted[estimate][rows])


def same_images(one: Predicted, other: Predicted) -> bool:
    """Whether two `validation.ecsv` have the same images and D_z, in the same order."""
    return all(
        np.array_equal(one[column], other[column]) for column in ("galaxy", "camera", "D_z_mpc")
    )


def pair(
    one: Predicted, other: Predicted, metric: str, samples: int, rng: np.random.Generator
) -> Paired:
    """Compare two networks by a paired bootstrap over galaxies.

    Parameters
    ----------
    one, other : dict of str to ndarray, (n,)
        Their `validation.ecsv`, of the same images.
    metric : str
        Metric from `criterion`.
    samples : int
        Number of bootstrap samples.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    Paired
        Samples with equal scores count as not better.
    """

    def difference(rows: NDArray[np.intp]) -> float:
        return score_of(one, metric, rows) - score_of(other, metric, rows)

    draws = bootstrap_rows(one["galaxy"].astype(np.int64), samples, rng)
    differences = np.array([difference(rows) for rows in draws])
    low, high = np.quantile(differences, [0.025, 0.975])
    of_all = difference(np.arange(len(one["galaxy"])))
    return Paired(of_all, float(low), float(high), float(np.mean(differences < 0)))


def exclusions(
    candidate: Candidate, holder: Holder | None, withdrawn: Collection[str]
) -> list[str]:
    """Find the reasons that exclude a candidate unless they are allowed.

    Parameters
    ----------
    candidate : Candidate
        A trained network.
    holder : Holder or None
        Version that holds the alias.
    withdrawn : collection of str
        Runs whose version was rolled back.

    Returns
    -------
    list of str
        Keys of `ALLOWABLE`.
    """
    run, ours = candidate.run, candidate.validation
    theirs = None if holder is None else holder.validation
    other = holder is not None and (
        holder.data != data_digest(run)
        or ours is None
        or theirs is None
        or not same_images(ours, theirs)
    )
    applies = {
        "other-data": other,
        "leaking-split": run.survey.split_by == "image",
        "literal-dimming": run.survey.dimming == "literal",
        "withdrawn": run.run_id in withdrawn,
    }
    return [key for key, excluded in applies.items() if excluded]


def compare_candidates(
    candidates: Sequence[Candidate],
    holder: Holder | None,
    *,
    confidence: float,
    samples: int,
    seed: int,
    allowed: Collection[str] = (),
    withdrawn: Collection[str] = (),
) -> list[Candidate]:
    """Compare candidates with the holder of an alias, and order them, best first.

    A candidate replaces the holder if it is better in more than a share 1 - (1 - confidence) / k of
    the bootstrap samples, where k is the number of candidates compared: the best of several equal
    candidates would seem better by chance (Bonferroni). If there is no holder, or the holder's
    images differ and that is allowed, a candidate need only beat its baseline.

    Parameters
    ----------
    candidates : sequence of Candidate
        Trained networks, with `against` from `refusal`.
    holder : Holder or None
        Version that holds the alias.
    confidence : float
        Probability required that a new champion is better, over all candidates.
    samples, seed : int
        Number of bootstrap samples and their seed; all candidates have the same samples.
    allowed : collection of str
        Keys of `ALLOWABLE` that do not exclude.
    withdrawn : collection of str
        Runs whose version was rolled back.

    Returns
    -------
    list of Candidate
        With `against` and `paired` set. The first takes the alias if its `against` is None.
    """
    assessed = []
    for candidate in candidates:
        excluded_by = exclusions(candidate, holder, withdrawn)
        against = candidate.against or _objection(candidate, holder, excluded_by, allowed)
        paired = None
        if against is None and holder is not None and "other-data" not in excluded_by:
            assert candidate.validation is not None  # else "other-data" would exclude it
            assert holder.validation is not None
            rng = np.random.default_rng(seed)
            metric = criterion(candidate.run)
            paired = pair(candidate.validation, holder.validation, metric, samples, rng)
        assessed.append(replace(candidate, against=against, paired=paired))
    compared = sum(candidate.paired is not None for candidate in assessed)
    required = 1 - (1 - confidence) / max(compared, 1)
    final = [_require_share(candidate, holder, required) for candidate in assessed]
    return sorted(final, key=lambda c: (c.against is not None, c.score))


def _objection(
    candidate: Candidate,
    holder: Holder | None,
    excluded_by: Sequence[str],
    allowed: Collection[str],
) -> str | None:
    """Why a candidate is not compared; None if it is."""
    if holder is not None and holder.run_id == candidate.run.run_id:
        return f"it is version {holder.version} already"
    forbidden = [key for key in excluded_by if key not in allowed]
    if not forbidden:
        return None
    name = "the holder" if holder is None else f"version {holder.version}"
    return f"{ALLOWABLE[forbidden[0]].format(holder=name)}: --allow {' '.join(forbidden)}"


def _require_share(candidate: Candidate, holder: Holder | None, required: float) -> Candidate:
    """Set `against` where the candidate is better in too few of the bootstrap samples."""
    if candidate.paired is None or candidate.paired.share > required:
        return candidate
    assert holder is not None
    return replace(
        candidate,
        against=(
            f"better than version {holder.version} in {candidate.paired.share:.2%} of the "
            f"bootstrap samples, but more than {required:.2%} are required"
        ),
    )
