"""A promotion in words: who takes an alias, when, why and from what."""

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
from peculiar.registry.tags import SURVEY

WORDS = {
    "posterior_rms_kms": "posterior velocity rms {:.0f} km/s",
    "l2_dz_mpc": "L2 on D_z {:.1f} Mpc",
}


@dataclass(frozen=True)
class Choice:
    """What was found for one alias: its holder, and the candidates for it, best first."""

    alias: str
    holder: Holder | None
    weighed: Sequence[Candidate]

    @property
    def winner(self) -> Candidate | None:
        """Who takes the alias; None where it stays as it is."""
        best = self.weighed[0]
        return best if best.against is None else None


def describe(choice: Choice, kinds: Sequence[Choice]) -> dict[str, Any]:
    """Who, when, why and from what."""
    best, holder = choice.weighed[0], choice.holder
    run = best.run
    metric, (name, score) = criterion(run), baseline(run)
    return {
        "promoted": best.against is None,
        "why": best.against or why(best, holder),
        "who": who(),
        "when": models.now(),
        "network": run.network,
        # what MLflow's page is searched by
        "dataset": run.survey.dataset,
        "data_source": run.survey.source,
        "criterion": metric,
        "data": data_digest(run),
        "run_id": run.run_id,
        models.DIGEST: run.model_sha256,
        f"validation_{metric}": run.validation.get(metric),
        "baseline": name,
        "baseline_score": score,
        "sigma_D_mpc": run.sigma_D_mpc,
        "grid_mpc": "" if run.grid_mpc is None else json.dumps(run.grid_mpc),
        SURVEY: run.survey.model_dump_json(),
        "validity": "" if run.validity is None else run.validity.model_dump_json(),
        "trained_by": run.code,
        **git_state(),
        "candidates": {c.name: verdict(c) for c in choice.weighed},
        "kinds": {kind.alias: kind_verdict(kind) for kind in kinds},
    }


def why(best: Candidate, holder: Holder | None) -> str:
    """Why the best candidate takes the alias."""
    metric = criterion(best.run)
    if holder is None:
        return f"lowest {metric} on validation; there was no champion"
    if best.paired is None:
        return f"lowest {metric} on validation; allowed by hand to replace version {holder.version}"
    return (
        f"lower {metric} than version {holder.version}'s by {-best.paired.difference:.2f} on the "
        f"same validation images, in {best.paired.share:.2%} of bootstrap samples of galaxies"
    )


def verdict(candidate: Candidate) -> dict[str, Any]:
    """What was found of one candidate."""
    paired = candidate.paired
    compared = {} if paired is None else {"less_holder": paired.difference, "better": paired.share}
    return {"score": candidate.score, **compared, "against": candidate.against}


def kind_verdict(choice: Choice) -> str:
    """Who is best at a kind of data, and why."""
    best = choice.weighed[0]
    if best.against is None:
        return f"{best.name}: {why(best, choice.holder)}"
    held = "nobody" if choice.holder is None else f"version {choice.holder.version}"
    return f"stays {held}; {best.name}: {best.against}"


def summary(model: str, decision: Mapping[str, Any]) -> str:
    """What a person reads at the end of `make repro`."""
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
