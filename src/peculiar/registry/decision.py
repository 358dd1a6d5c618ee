"""Describe a decision of `promote`: which network takes an alias, who decided, when and why."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peculiar.core.provenance import git_state, who
from peculiar.registry import models
from peculiar.registry.selection import (
    Candidate,
    Holder,
    baseline,
    criterion,
    data_digest,
)
from peculiar.registry.spending import Round, percent
from peculiar.registry.tags import SURVEY
from peculiar.runs.nulls import NullTests

WORDS = {
    "posterior_rms_kms": "posterior velocity rms {:.0f} km/s",
    "l2_dz_mpc": "L2 on D_z {:.1f} Mpc",
}


@dataclass(frozen=True)
class Choice:
    """Comparison for one alias.

    Attributes
    ----------
    alias : str
        For example "champion".
    holder : Holder or None
        Version that holds the alias.
    candidates : sequence of Candidate
        From `selection.compare_candidates`, best first.
    opened : sequence of Round
        The comparisons among them that were not made before; `ledger.write` keeps them.
    """

    alias: str
    holder: Holder | None
    candidates: Sequence[Candidate]
    opened: Sequence[Round] = ()

    @property
    def winner(self) -> Candidate | None:
        """Candidate that takes the alias; None if the holder keeps it."""
        best = self.candidates[0]
        return best if best.against is None else None


def describe(choice: Choice, kinds: Sequence[Choice]) -> dict[str, Any]:
    """Content of `decision.json`, and of the tags of the new version.

    Parameters
    ----------
    choice : Choice
        Comparison for one alias.
    kinds : sequence of Choice
        For `champion`: comparisons for the aliases of the kinds of data.

    Returns
    -------
    dict
        Who decided, when and why; the best candidate, its score, comparison, null tests, survey
        and validity; the verdict on every candidate. `comparison` is 0 where there was none.
    """
    best, holder = choice.candidates[0], choice.holder
    run = best.run
    metric, (name, score) = criterion(run), baseline(run)
    return {
        "promoted": best.against is None,
        "why": best.against or why(best, holder),
        "who": who(),
        "when": models.now(),
        "network": run.network,
        # for searches in MLflow's user interface
        "dataset": run.survey.dataset,
        "data_source": run.survey.source,
        "criterion": metric,
        "data": data_digest(run),
        "run_id": run.run_id,
        models.DIGEST: run.model_sha256,
        f"validation_{metric}": run.validation.get(metric),
        "baseline": name,
        "baseline_score": score,
        "comparison": 0 if best.round is None else best.round.number,
        "compared_together": 0 if best.round is None else len(best.round.candidates),
        "required_share": best.required,
        "null_tests": null_outcome(best.nulls),
        "sigma_D_mpc": run.sigma_D_mpc,
        "grid_mpc": "" if run.grid_mpc is None else json.dumps(run.grid_mpc),
        SURVEY: run.survey.model_dump_json(),
        "validity": "" if run.validity is None else run.validity.model_dump_json(),
        "trained_by": run.code,
        **git_state(),
        "candidates": {c.name: verdict(c) for c in choice.candidates},
        "kinds": {kind.alias: kind_verdict(kind) for kind in kinds},
    }


def why(best: Candidate, holder: Holder | None) -> str:
    """State why the best candidate takes the alias."""
    metric = criterion(best.run)
    if holder is None:
        return f"lowest {metric} on validation; there was no champion"
    if best.paired is None:
        return f"lowest {metric} on validation; allowed by hand to replace version {holder.version}"
    assert best.round is not None
    return (
        f"lower {metric} than version {holder.version}'s by {-best.paired.difference:.2f} on the "
        f"same validation images, in {percent(best.paired.share)} of bootstrap samples of galaxies "
        f"(comparison {best.round.number} on these images, more than {percent(best.required)} "
        "required)"
    )


def null_outcome(nulls: NullTests | None) -> str:
    """State the outcome of a network's null tests in a few words."""
    if nulls is None:
        return "missing"
    count = len(nulls.scenes) + len(nulls.renderings)
    passed = f"{count - len(nulls.failures)} of {count} passed"
    if not nulls.not_applicable:
        return passed
    return f"not applicable: {nulls.not_applicable}" + (f"; {passed}" if count else "")


def verdict(candidate: Candidate) -> dict[str, Any]:
    """Score of one candidate, its comparison with the holder, and the reason against it."""
    paired = candidate.paired
    compared: dict[str, Any] = {}
    if paired is not None and candidate.round is not None:
        compared = {
            "less_holder": paired.difference,
            "better": paired.share,
            "required": candidate.required,
            "comparison": candidate.round.number,
        }
    return {
        "score": candidate.score,
        **compared,
        "null_tests": null_outcome(candidate.nulls),
        "against": candidate.against,
    }


def kind_verdict(choice: Choice) -> str:
    """State which network holds the alias of a kind of data, and why."""
    best = choice.candidates[0]
    if best.against is None:
        return f"{best.name}: {why(best, choice.holder)}"
    held = "not set" if choice.holder is None else f"version {choice.holder.version}"
    return f"stays {held}; {best.name}: {best.against}"


def summary(model: str, decision: Mapping[str, Any]) -> str:
    """Summarise a decision in one line, printed at the end of `make repro`."""
    name = f"{decision['dataset']}-{decision['network']} ({decision['data_source']} data)"
    if not decision["promoted"]:
        return f"{model}: the champion stays; {name}: {decision['why']}"
    metric = decision["criterion"]
    score = WORDS[metric].format(decision[f"validation_{metric}"])
    number = decision.get("version")
    which = "the next version would be" if number is None else f"version {number} is"
    return (
        f"{model}: {which} champion: {name}, {score} on validation; "
        f"{decision['baseline']} gives {decision['baseline_score']:.0f}"
    )


def candidate_table(candidates: Sequence[Candidate], holder: Holder | None) -> str:
    """Format the candidates as a table for the terminal, one row each, best first."""
    versus = "" if holder is None else f"less version {holder.version}'s [95%]"
    head = ["better in", "required (comparison)"] if versus else ["", ""]
    rows = [["candidate", "on validation", versus, *head, "verdict"]]
    for c in candidates:
        unit = "Mpc" if criterion(c.run) == "l2_dz_mpc" else "km/s"
        digits = 2 if unit == "Mpc" else 1
        p = c.paired
        compared = ["-" * bool(versus)] * 3
        if p is not None and c.round is not None:
            ends = f"[{p.low:+.{digits}f}, {p.high:+.{digits}f}]"
            required = f">{percent(c.required)} ({c.round.number})"
            compared = [f"{p.difference:+.{digits}f} {ends}", percent(p.share), required]
        score = f"{c.score:.{digits}f} {unit}"
        rows.append([c.name, score, *compared, c.against or "may take its place"])
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return "\n".join(
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[5]])
        for row in rows
    )
