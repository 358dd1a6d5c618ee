"""Stage `promote`: give the alias `champion` to the best network, or say why not.

The best at each kind of data has an alias of its own, by the same rules (`promotion.weigh`).
"""

import argparse
import json
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peculiar.core.errors import InputError, one_sentence
from peculiar.core.files import whole_folder
from peculiar.core.params import load
from peculiar.core.provenance import git_state, who
from peculiar.registry import models
from peculiar.registry.card import card
from peculiar.registry.params import Promote
from peculiar.registry.selection import (
    ALLOWABLE,
    Candidate,
    Holder,
    alias_of_kind,
    baseline,
    criterion,
    data_digest,
    refusal,
    table,
    weigh,
)
from peculiar.runs import record, tracking
from peculiar.training.params import Train

TRAINED, EVALUATED, OUT = Path("results/train"), Path("results/evaluate"), Path("results/promote")
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the stage from `params.yaml`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="change nothing")
    parser.add_argument("--allow", nargs="+", default=[], choices=list(ALLOWABLE))
    given = parser.parse_args(arguments)
    with one_sentence():
        promote(load(Promote), load(Train), OUT, allowed=given.allow, dry_run=given.dry_run)


def tested() -> dict[str, dict[str, float]]:
    """Metrics of each network on the test split, as `evaluate` wrote them."""
    path = EVALUATED / "metrics.json"
    if not path.exists():
        raise InputError(f"{path} is missing: run `dvc repro evaluate` first")
    found: dict[str, dict[str, float]] = json.loads(path.read_text())
    return found


def candidates(train: Train) -> list[Candidate]:
    """Every trained network, with the reason where it cannot be promoted at all."""
    metrics, found = tested(), []
    for name in (f"{dataset}-{network}" for dataset, network in train.items()):
        run = record.read_run(TRAINED / name)
        validation = record.read_validation(TRAINED / name / record.VALIDATION)
        found.append(Candidate(run, validation, refusal(run, metrics.get(name))))
    return found


def holder_of(model: str, alias: str) -> Holder | None:
    """Who has an alias, with its predictions for the validation images."""
    version = tracking.aliased(model, alias)
    if version is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = models.artifact(str(version.run_id), record.VALIDATION, Path(folder))
        validation = None if path is None else record.read_validation(path)
    # an imported version has a run of another id than the one that trained it
    run_id = version.tags.get("run_id", str(version.run_id))
    return Holder(str(version.version), run_id, version.tags.get("data", ""), validation)


def choices(found: Sequence[Candidate], params: Promote, allowed: Collection[str]) -> list[Choice]:
    """Weigh the candidates for `champion`, and for the alias of each kind of data."""
    withdrawn = {
        v.tags.get("run_id", "")
        for v in models.versions(params.model)
        if models.WITHDRAWN in v.tags
    }
    kinds = dict.fromkeys(alias_of_kind(candidate.run) for candidate in found)
    chosen = []
    for alias in (tracking.CHAMPION, *kinds):
        own = [c for c in found if alias in (tracking.CHAMPION, alias_of_kind(c.run))]
        holder = holder_of(params.model, alias)
        weighed = weigh(
            own,
            holder,
            confidence=params.confidence,
            samples=params.bootstrap,
            seed=params.seed,
            allowed=allowed,
            withdrawn=withdrawn,
        )
        chosen.append(Choice(alias, holder, weighed))
    return chosen


def stage_of(run: record.Run) -> str:
    """The DVC stage that trains a network."""
    if run.network == "best":
        return f"train-best@{run.dataset}"
    return f"train@{run.dataset}-{run.network}"


def check_model(run: record.Run) -> None:
    """Refuse a candidate whose exported model MLflow has no more, or in other files."""
    again = f"train again with `dvc repro --force --single-item {stage_of(run)}`"
    if not tracking.run_exists(run.run_id):
        raise InputError(
            f"MLflow has no run {run.run_id} of {run.network}: give back its mlruns/, or {again}"
        )
    if tracking.model_sha256(run.model_uri) != run.model_sha256:
        raise InputError(
            f"the files of {run.model_uri} are not those that {run.network} was trained to: give "
            f"back MLflow's artifacts, or {again}"
        )


def promote(
    params: Promote,
    train: Train,
    folder: Path,
    *,
    allowed: Collection[str] = (),
    dry_run: bool = False,
) -> None:
    """Weigh the networks, say so, move the aliases, and write the decision into `folder`.

    Parameters
    ----------
    params : Promote
        Name in the registry, and how sure one must be.
    train : Train
        Says which networks there are.
    folder : Path
        For `decision.json`.
    allowed : collection of str
        Keys of `promotion.ALLOWABLE` that are let through.
    dry_run : bool
        Only say what would be done.

    Raises
    ------
    InputError
        When no network may be promoted and there is no champion either, or another promotion came
        in between.
    """
    experiment = tracking.connect()
    chosen = choices(candidates(train), params, allowed)
    champion = chosen[0]
    print(table(champion.weighed, champion.holder))
    decision = describe(champion, chosen[1:])
    if champion.winner is None and champion.holder is None:
        best = champion.weighed[0]
        raise InputError(
            f"no network can be promoted; the best, {best.run.network}: {best.against}"
        )
    if dry_run:
        print(summary(params.model, decision) + " (a dry run: nothing was changed)")
        return
    for run in {c.winner.run.run_id: c.winner.run for c in chosen if c.winner}.values():
        check_model(run)
    with (
        tracking.run(experiment, "promote", params=params.model_dump(), tags={"stage": "promote"}),
        whole_folder(folder) as partial,
    ):
        if any(choice.winner for choice in chosen):
            act(params.model, chosen, decision)
        path = partial / "decision.json"
        path.write_text(json.dumps(decision, indent=2) + "\n")
        tracking.log_file(path)
    print(summary(params.model, decision))


def act(model: str, chosen: Sequence[Choice], decision: dict[str, Any]) -> None:
    """Register the winners and move the aliases, unless one was moved since it was weighed."""
    weighed = {c.alias: c.holder.version if c.holder else None for c in chosen}
    with models.locked(model):
        models.expect(model, weighed)
        aliases: dict[str, str] = {}
        for choice in chosen:
            if choice.winner is None:
                continue
            own = decision if choice is chosen[0] else describe(choice, [])
            version = _version(model, choice.winner, own)
            if choice.alias == tracking.CHAMPION and choice.holder is not None:
                aliases[tracking.PREVIOUS] = choice.holder.version
            aliases[choice.alias] = version
        event = {key: decision[key] for key in ("who", "when", "why")}
        models.move(model, aliases, {"what": "promote", **event})
    decision["version"] = aliases.get(tracking.CHAMPION, weighed[tracking.CHAMPION])
    decision["aliases"] = aliases


def _version(model: str, winner: Candidate, decision: Mapping[str, Any]) -> str:
    """Number of the winner's version, with tags and model card."""
    run = winner.run
    tags = {key: _text(value) for key, value in decision.items() if key != "kinds"}
    version = models.register(model, run.model_uri, run.run_id, tags)
    number = str(version.version)
    assert winner.validation is not None
    metrics = tested()[winner.name]
    models.describe(version, card(model, number, run, winner.validation, metrics, decision))
    return number


def _text(value: Any) -> str:
    """A value as a tag."""
    return json.dumps(value) if isinstance(value, dict) else str(value)


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
        "dataset": run.dataset,
        "criterion": metric,
        "data_source": run.data_source,
        "data": data_digest(run),
        "run_id": run.run_id,
        models.DIGEST: run.model_sha256,
        f"validation_{metric}": run.validation.get(metric),
        "baseline": name,
        "baseline_score": score,
        "sigma_D_mpc": run.sigma_D_mpc,
        "grid_mpc": "" if run.grid_mpc is None else json.dumps(run.grid_mpc),
        "sigma_v_kms": run.sigma_v_kms,
        "H0_kms_mpc": run.H0_kms_mpc,
        "bands": "".join(run.bands),
        "pixels": run.pixels,
        "pixel_scale_arcsec": run.pixel_scale_arcsec,
        "dimming": run.dimming,
        "instrument": "" if run.instrument is None else run.instrument.model_dump_json(),
        "split_by": run.split_by,
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


if __name__ == "__main__":
    main()
