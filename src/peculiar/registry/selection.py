"""Compare candidates with the present champion (the promoted model) on the same validation images.

The comparison is a paired bootstrap over galaxies (`peculiar.registry.paired`). A candidate must be
better in a large enough share of the samples; the more comparisons this validation set has seen,
the larger (`peculiar.registry.spending`).
"""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from peculiar.registry.paired import Paired, pair, same_images
from peculiar.registry.spending import Round, percent, required_share, rounds_of
from peculiar.runs.nulls import NullTests
from peculiar.runs.record import Predicted, Run
from peculiar.velocity.metrics import METRICS

# reasons that exclude a candidate unless `--allow` names them
ALLOWABLE = {
    "other-data": "{holder} was validated on other images, which allow no comparison",
    "leaking-split": "its splits share galaxies (split_by: image)",
    "literal-dimming": "its images have the distance printed into the pixels (dimming: literal)",
    "paper-scale": "its images take every frame as 84.4 kpc, whatever the file says (scale: paper)",
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
    nulls : NullTests or None
        Its null tests; None if it has none.
    paired : Paired or None
        Comparison with the holder of the alias; None if they were not compared.
    round : Round or None
        Which comparison on this validation set that is; None if they were not compared.
    required : float
        `paired.share` must be greater to take the alias.
    """

    run: Run
    validation: Predicted | None = None
    against: str | None = None
    nulls: NullTests | None = None
    paired: Paired | None = None
    round: Round | None = None
    required: float = 0.0

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


def null_refusal(run: Run, nulls: NullTests | None) -> str | None:
    """State why the null tests of a network forbid its promotion, even with `--allow`.

    Parameters
    ----------
    run : Run
        The candidate.
    nulls : NullTests or None
        Results of its null tests; None if they are missing.

    Returns
    -------
    str or None
        The reason, which names the first test that fails; None if it passes, or if its galaxies
        allow no test (`not_applicable`).
    """
    if nulls is None:
        return "its null tests are missing: run `dvc repro nulls` first"
    if nulls.run_id != run.run_id:
        return (
            f"its null tests are those of run {nulls.run_id}, before it was trained again: run "
            "`dvc repro nulls` first"
        )
    if nulls.failures:
        first, more = nulls.failures[0], len(nulls.failures) - 1
        return f"it fails the null test {first}" + (f" (and {more} more)" if more else "")
    if not nulls.not_applicable and not (nulls.scenes and nulls.renderings):
        lacking = "renderings" if nulls.scenes else "scenes"
        return f"its null tests have no {lacking}: run `dvc repro --force nulls`"
    return None


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
        "paper-scale": run.survey.scale == "paper",
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
    ledger: Sequence[Round] = (),
    allowed: Collection[str] = (),
    withdrawn: Collection[str] = (),
) -> list[Candidate]:
    """Compare candidates with the holder of an alias, and order them, best first.

    A candidate replaces the holder if it is better in more than `spending.required_share` of the
    bootstrap samples. If there is no holder, or the holder's images differ and that is allowed, a
    candidate need only beat its baseline.

    Parameters
    ----------
    candidates : sequence of Candidate
        Trained networks, with `against` from `refusal` and `null_refusal`.
    holder : Holder or None
        Version that holds the alias.
    confidence : float
        1 less the probability that an equal network ever takes the alias on this validation set.
    samples, seed : int
        Number of bootstrap samples and their seed; all candidates have the same samples.
    ledger : sequence of Round
        Comparisons so far (`peculiar.registry.ledger.read`).
    allowed : collection of str
        Keys of `ALLOWABLE` that do not exclude.
    withdrawn : collection of str
        Runs whose version was rolled back.

    Returns
    -------
    list of Candidate
        With `against`, `paired`, `round` and `required` set. The first takes the alias if its
        `against` is None.
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
    if holder is not None:
        compared = [c.run.run_id for c in assessed if c.paired is not None]
        rounds = rounds_of(ledger, holder.data, holder.run_id, compared)
        assessed = [_require_share(c, holder, rounds, confidence) for c in assessed]
    return sorted(assessed, key=lambda c: (c.against is not None, c.score))


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


def _require_share(
    candidate: Candidate, holder: Holder, rounds: Mapping[str, Round], confidence: float
) -> Candidate:
    """Set `round` and `required`, and `against` where the share of the samples is too small."""
    paired = candidate.paired
    if paired is None:
        return candidate
    round_ = rounds[candidate.run.run_id]
    required = required_share(round_, confidence, paired.galaxies)
    where = f"in comparison {round_.number} on these images"
    against = None
    if required == 1:
        against = f"{paired.galaxies} galaxies cannot decide {where}: validate on more galaxies"
    elif paired.share <= required:
        against = (
            f"better than version {holder.version} in {percent(paired.share)} of the bootstrap "
            f"samples, but more than {percent(required)} are required {where}"
        )
    return replace(candidate, round=round_, required=required, against=against)
