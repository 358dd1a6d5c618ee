"""Who may be champion: candidates compared with the present one on the same validation images.

A paired bootstrap over whole galaxies (`velocity.metrics.bootstrap_rows`): in each sample both
networks are measured on the same galaxies, and what counts is in how many samples the candidate is
better. Four views of a galaxy err together, and two networks err alike on hard galaxies; a
comparison of two errors, each by itself, would know neither.
"""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from peculiar.runs.record import Predicted, Run
from peculiar.velocity.metrics import METRICS, bootstrap_rows, l2

# What keeps a candidate out unless allowed by hand, and why
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
        Its number, and the run that trained it.
    data : str
        Digest of the dataset that it was validated on.
    validation : dict or None
        Its `validation.ecsv`; None where that is lost.
    """

    version: str
    run_id: str
    data: str
    validation: Predicted | None


@dataclass(frozen=True)
class Paired:
    """Two networks on the same images.

    Attributes
    ----------
    difference : float
        Score of the first less that of the second; negative where the first is better.
    low, high : float
        Ends of the bootstrap's central interval of 95 per cent of that difference.
    share : float
        Share of the bootstrap samples in which the first is better.
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
        With its metrics on the validation split.
    validation : dict or None
        Its `validation.ecsv`.
    against : str or None
        Why it cannot be promoted; None where it can.
    paired : Paired or None
        It and the holder of the alias; None where they have no images in common.
    """

    run: Run
    validation: Predicted | None = None
    against: str | None = None
    paired: Paired | None = None

    @property
    def name(self) -> str:
        """For example "uniform-cnn3"."""
        return f"{self.run.survey.dataset}-{self.run.network}"

    @property
    def score(self) -> float:
        """What decides, on the validation split; infinite where it is not known."""
        score = self.run.validation.get(criterion(self.run), math.inf)
        return score if math.isfinite(score) else math.inf


def criterion(run: Run) -> str:
    """The metric on the validation split that decides; less is better.

    For measured distances no true velocity is known, only the label D_z.
    """
    return "l2_dz_mpc" if run.survey.distribution == "measured" else "posterior_rms_kms"


def baseline(run: Run) -> tuple[str, float]:
    """What a network must beat by its criterion on the validation split: its name and score."""
    if run.survey.distribution != "measured":
        return "v = 0", run.zero_rms_kms
    return "a constant distance", run.spread_dz_mpc


def data_digest(run: Run) -> str:
    """Digest of the observed dataset that a network was trained and validated on."""
    return run.data[f"data/observe/{run.survey.dataset}"]


def alias_of_kind(run: Run) -> str:
    """Alias of the best network at a kind of data: letters, digits, "_" and "-" are allowed.

    For example "champion-uniform-stand-in".
    """
    return re.sub(
        r"[^\w-]+", "-", f"champion-{run.survey.dataset}-{run.survey.source}", flags=re.ASCII
    )


def refusal(run: Run, tested: Mapping[str, float] | None) -> str | None:
    """Why a network cannot be promoted at all; None where it can.

    Parameters
    ----------
    run : Run
        The candidate, with its metrics on the validation split.
    tested : mapping or None
        Its metrics on the test split: only whether they are there and finite is asked, so that the
        test split decides nothing.
    """
    for split, metrics in (("validation", run.validation), ("test", tested or {})):
        missing = [key for key in METRICS if key not in metrics]
        if missing:
            return f"its {split} metrics lack {', '.join(missing)}"
        asked = [criterion(run)] if run.survey.distribution == "measured" else METRICS
        broken = [key for key in asked if not math.isfinite(metrics[key])]
        if broken:
            return f"its {split} metrics {', '.join(broken)} are not finite"
    rms, (name, least) = run.validation[criterion(run)], baseline(run)
    if rms >= least:
        return f"its {criterion(run)} {rms:.1f} does not beat {name}, {least:.1f}"
    return None


def score_of(predicted: Predicted, metric: str, rows: NDArray[np.intp]) -> float:
    """A criterion, of some rows of `validation.ecsv`."""
    true, said = {
        "l2_dz_mpc": ("D_z_mpc", "D_p_mpc"),
        "posterior_rms_kms": ("v_kms", "v_hat_kms"),
    }[metric]
    return l2(predicted[true][rows], predicted[said][rows])


def same_images(one: Predicted, other: Predicted) -> bool:
    """Whether two `validation.ecsv` have the same images, with the same labels, in one order."""
    return all(
        np.array_equal(one[column], other[column]) for column in ("galaxy", "camera", "D_z_mpc")
    )


def pair(
    one: Predicted, other: Predicted, metric: str, samples: int, rng: np.random.Generator
) -> Paired:
    """Compare two networks by a paired bootstrap over whole galaxies.

    Parameters
    ----------
    one, other : dict of str to ndarray, (n,)
        Their `validation.ecsv`, of the same images.
    metric : str
        From `criterion`.
    samples : int
        Bootstrap samples.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    Paired
        A sample in which both are equal counts as not better.
    """
    everything = np.arange(len(one["galaxy"]))
    found = np.array(
        [
            score_of(one, metric, rows) - score_of(other, metric, rows)
            for rows in (everything, *bootstrap_rows(one["galaxy"].astype(np.int64), samples, rng))
        ]
    )
    low, high = np.quantile(found[1:], [0.025, 0.975])
    return Paired(float(found[0]), float(low), float(high), float(np.mean(found[1:] < 0)))


def to_be_allowed(
    candidate: Candidate, holder: Holder | None, withdrawn: Collection[str]
) -> list[str]:
    """Keys of `ALLOWABLE` that keep a candidate out.

    Parameters
    ----------
    candidate : Candidate
        To be weighed.
    holder : Holder or None
        Who has the alias.
    withdrawn : collection of str
        Runs whose version was rolled back.
    """
    run, ours = candidate.run, candidate.validation
    theirs = None if holder is None else holder.validation
    other = holder is not None and (
        holder.data != data_digest(run)
        or ours is None
        or theirs is None
        or not same_images(ours, theirs)
    )
    found = {
        "other-data": other,
        "leaking-split": run.survey.split_by == "image",
        "literal-dimming": run.survey.dimming == "literal",
        "withdrawn": run.run_id in withdrawn,
    }
    return [key for key, here in found.items() if here]


def weigh(
    candidates: Sequence[Candidate],
    holder: Holder | None,
    *,
    confidence: float,
    samples: int,
    seed: int,
    allowed: Collection[str] = (),
    withdrawn: Collection[str] = (),
) -> list[Candidate]:
    """Say of each candidate what is against it, best first.

    A candidate takes the holder's place if it is better in more than a share
    1 - (1 - confidence) / k of the bootstrap samples, k being the number of candidates that are
    compared: the best of several equal ones would seem better by chance (Bonferroni). Where there
    is no holder, or none on the same images and that is allowed, it need only beat its baseline.

    Parameters
    ----------
    candidates : sequence of Candidate
        `against` is what `refusal` says.
    holder : Holder or None
        Who has the alias.
    confidence : float
        That a new champion is better, over all candidates.
    samples, seed : int
        Of the bootstrap; the same samples for every candidate.
    allowed : collection of str
        Keys of `ALLOWABLE` that are let through.
    withdrawn : collection of str
        Runs whose version was rolled back.

    Returns
    -------
    list of Candidate
        The first is the new champion if nothing is against it.
    """
    weighed = []
    for candidate in candidates:
        needs = to_be_allowed(candidate, holder, withdrawn)
        against = candidate.against
        if against is None and holder is not None and holder.run_id == candidate.run.run_id:
            against = f"it is version {holder.version} already"
        elif against is None and (kept_out := [key for key in needs if key not in allowed]):
            name = "nobody" if holder is None else f"version {holder.version}"
            why = ALLOWABLE[kept_out[0]].format(holder=name)
            against = f"{why}: --allow {' '.join(kept_out)}"
        paired = None
        if against is None and holder is not None and "other-data" not in needs:
            assert candidate.validation is not None  # or it would need to be allowed
            assert holder.validation is not None
            rng = np.random.default_rng(seed)
            metric = criterion(candidate.run)
            paired = pair(candidate.validation, holder.validation, metric, samples, rng)
        weighed.append(replace(candidate, against=against, paired=paired))
    compared = sum(candidate.paired is not None for candidate in weighed)
    asked = 1 - (1 - confidence) / max(compared, 1)
    judged = [_unsure(candidate, holder, asked) for candidate in weighed]
    return sorted(judged, key=lambda c: (c.against is not None, c.score))


def _unsure(candidate: Candidate, holder: Holder | None, asked: float) -> Candidate:
    """The candidate, with what is against it where it is not surely better than the holder."""
    if candidate.paired is None or candidate.paired.share > asked:
        return candidate
    assert holder is not None
    return replace(
        candidate,
        against=(
            f"better than version {holder.version} in {candidate.paired.share:.2%} of the "
            f"bootstrap samples, more than {asked:.2%} are asked for"
        ),
    )


def table(weighed: Sequence[Candidate], holder: Holder | None) -> str:
    """The candidates for people, best first, one row each."""
    versus = "" if holder is None else f"less version {holder.version}'s [95%]"
    rows = [["candidate", "on validation", versus, versus and "better in", "verdict"]]
    for c in weighed:
        unit = "Mpc" if criterion(c.run) == "l2_dz_mpc" else "km/s"
        digits = 2 if unit == "Mpc" else 1
        p = c.paired
        compared = ["-" * bool(versus)] * 2
        if p is not None:
            ends = f"[{p.low:+.{digits}f}, {p.high:+.{digits}f}]"
            compared = [f"{p.difference:+.{digits}f} {ends}", f"{p.share:.2%}"]
        rows.append(
            [
                c.name,
                f"{c.score:.{digits}f} {unit}",
                *compared,
                c.against or "may take its place",
            ]
        )
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join(
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[4]])
        for row in rows
    )
