"""Stage `promote`: give the alias `champion` to the best network, or say why not.

The best at each kind of data has an alias of its own, by the same rules (`promotion.weigh`).
"""

import argparse
import json
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from peculiar.core.errors import InputError, one_sentence
from peculiar.core.files import whole_folder
from peculiar.core.params import load
from peculiar.pipeline.paths import Paths
from peculiar.registry import models
from peculiar.registry.card import card
from peculiar.registry.decision import Choice, describe, summary
from peculiar.registry.params import Promote
from peculiar.registry.selection import (
    ALLOWABLE,
    Candidate,
    Holder,
    alias_of_kind,
    refusal,
    table,
    weigh,
)
from peculiar.runs import exported, record, tracking
from peculiar.training.params import Train

Tested = Mapping[str, Mapping[str, float]]
"""Metrics of each network on the test split, by its name."""


def main(arguments: Sequence[str] | None = None, root: Path = Path()) -> None:
    """Run the stage from `params.yaml`."""
    parser = argparse.ArgumentParser(prog="peculiar promote", description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument(
        "--allow",
        nargs="+",
        default=[],
        metavar="WHAT",
        choices=list(ALLOWABLE),
        help=f"let through what is kept out: {' '.join(ALLOWABLE)}",
    )
    options = parser.parse_args(arguments)
    paths = Paths(root)
    with one_sentence():
        sections = load(Promote, paths.params), load(Train, paths.params)
        promote(*sections, paths, allowed=options.allow, dry_run=options.dry_run)


def read_tested(paths: Paths) -> Tested:
    """Metrics of each network on the test split, as `evaluate` wrote them."""
    path = paths.evaluated / "metrics.json"
    if not path.exists():
        raise InputError(f"{path} is missing: run `dvc repro evaluate` first")
    metrics: Tested = json.loads(path.read_text())
    return metrics


def candidates(train: Train, tested: Tested, paths: Paths) -> list[Candidate]:
    """Every trained network, with the reason where it cannot be promoted at all."""
    networks = []
    for name in (f"{dataset}-{network}" for dataset, network in train.items()):
        folder = paths.trained(name)
        run = record.read_run(folder)
        validation = record.read_validation(folder / record.VALIDATION)
        networks.append(Candidate(run, validation, refusal(run, tested.get(name))))
    return networks


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
        return f"train-best@{run.survey.dataset}"
    return f"train@{run.survey.dataset}-{run.network}"


def check_model(run: record.Run) -> None:
    """Refuse a candidate whose exported model MLflow has no more, or in other files."""
    again = f"train again with `dvc repro --force --single-item {stage_of(run)}`"
    if not tracking.run_exists(run.run_id):
        raise InputError(
            f"MLflow has no run {run.run_id} of {run.network}: give back its mlruns/, or {again}"
        )
    if exported.model_sha256(run.model_uri) != run.model_sha256:
        raise InputError(
            f"the files of {run.model_uri} are not those that {run.network} was trained to: give "
            f"back MLflow's artifacts, or {again}"
        )


def promote(
    params: Promote,
    train: Train,
    paths: Paths,
    *,
    allowed: Collection[str] = (),
    dry_run: bool = False,
) -> None:
    """Compare the networks, print the comparison, move the aliases, and write the decision.

    Parameters
    ----------
    params : Promote
        Name in the registry, and how sure one must be.
    train : Train
        Says which networks there are.
    paths : Paths
        Where networks and metrics are read and `decision.json` is written.
    allowed : collection of str
        Keys of `selection.ALLOWABLE` that are let through.
    dry_run : bool
        Only say what would be done.

    Raises
    ------
    InputError
        When no network may be promoted and there is no champion either, or another promotion came
        in between.
    """
    experiment = tracking.connect(paths.store)
    tested = read_tested(paths)
    chosen = choices(candidates(train, tested, paths), params, allowed)
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
        whole_folder(paths.promoted) as partial,
    ):
        if any(choice.winner for choice in chosen):
            act(params.model, chosen, decision, tested)
        path = partial / "decision.json"
        path.write_text(json.dumps(decision, indent=2) + "\n")
        tracking.log_file(path)
    print(summary(params.model, decision))


def act(model: str, chosen: Sequence[Choice], decision: dict[str, Any], tested: Tested) -> None:
    """Register the winners and move the aliases, unless one was moved since it was weighed."""
    weighed = {c.alias: c.holder.version if c.holder else None for c in chosen}
    with models.locked(model):
        models.expect(model, weighed)
        aliases: dict[str, str] = {}
        for choice in chosen:
            if choice.winner is None:
                continue
            own = decision if choice is chosen[0] else describe(choice, [])
            version = _version(model, choice.winner, own, tested[choice.winner.name])
            if choice.alias == tracking.CHAMPION and choice.holder is not None:
                aliases[tracking.PREVIOUS] = choice.holder.version
            aliases[choice.alias] = version
        event = {key: decision[key] for key in ("who", "when", "why")}
        models.move(model, aliases, {"what": "promote", **event})
    decision["version"] = aliases.get(tracking.CHAMPION, weighed[tracking.CHAMPION])
    decision["aliases"] = aliases


def _version(
    model: str, winner: Candidate, decision: Mapping[str, Any], tested: Mapping[str, float]
) -> str:
    """Number of the winner's version, with tags and model card."""
    run = winner.run
    tags = {key: _text(value) for key, value in decision.items() if key != "kinds"}
    version = models.register(model, run.model_uri, run.run_id, tags)
    number = str(version.version)
    assert winner.validation is not None
    models.describe(version, card(model, number, run, winner.validation, tested, decision))
    return number


def _text(value: Any) -> str:
    """A value as a tag."""
    return json.dumps(value) if isinstance(value, dict) else str(value)


if __name__ == "__main__":
    main()
