"""Stage `promote`: give the alias `champion` to the best network, or state why it is not given.

The best network for each kind of data gets an alias by the same rules
(`peculiar.registry.selection.compare_candidates`).
"""

import argparse
import json
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from peculiar.core.errors import InputError, one_sentence
from peculiar.core.files import files_sha256, replace_folder
from peculiar.core.params import load
from peculiar.pipeline.paths import Paths
from peculiar.registry import ledger, models
from peculiar.registry.card import model_card
from peculiar.registry.decision import Choice, candidate_table, describe, summary
from peculiar.registry.moves import WITHDRAWN
from peculiar.registry.params import Promote
from peculiar.registry.selection import (
    ALLOWABLE,
    Candidate,
    Holder,
    alias_of_kind,
    compare_candidates,
    null_refusal,
    refusal,
)
from peculiar.registry.spending import Round
from peculiar.runs import logged, record, stored, tracking
from peculiar.runs.nulls import read_null_tests
from peculiar.training.params import Train

Tested = Mapping[str, Mapping[str, float]]
"""Metrics of each network on the test split, by its name."""


def main(arguments: Sequence[str] | None = None, root: Path = Path()) -> None:
    """Run the stage from `params.yaml`."""
    parser = argparse.ArgumentParser(prog="peculiar promote", description=__doc__)
    parser.add_argument(
        "--dry-run", action="store_true", help="show the decision and change nothing"
    )
    parser.add_argument(
        "--allow",
        nargs="+",
        default=[],
        metavar="WHAT",
        choices=list(ALLOWABLE),
        help=f"admit networks that are excluded by: {' '.join(ALLOWABLE)}",
    )
    options = parser.parse_args(arguments)
    paths = Paths(root)
    with one_sentence():
        sections = load(Promote, paths.params), load(Train, paths.params)
        promote_best(*sections, paths, allowed=options.allow, dry_run=options.dry_run)


def read_tested(paths: Paths) -> Tested:
    """Read the metrics of each network on the test split, as `evaluate` wrote them.

    Raises
    ------
    InputError
        When the file is missing.
    """
    path = paths.evaluated / "metrics.json"
    if not path.exists():
        raise InputError(f"{path} is missing: run `dvc repro evaluate` first")
    metrics: Tested = json.loads(path.read_text())
    return metrics


def candidates(train: Train, tested: Tested, paths: Paths) -> list[Candidate]:
    """Read all trained networks; those that cannot be promoted have a reason in `against`."""
    networks = []
    for name in (f"{dataset}-{network}" for dataset, network in train.items()):
        folder = paths.trained(name)
        run = record.read_run(folder)
        validation = record.read_validation(folder / record.VALIDATION)
        nulls = read_null_tests(paths.nulls / f"{name}.json")
        against = refusal(run, tested.get(name)) or null_refusal(run, nulls)
        networks.append(Candidate(run, validation, against, nulls))
    return networks


def holder_of(model: str, alias: str) -> Holder | None:
    """Version that holds an alias, with its predictions on the validation split; None if unset."""
    version = models.aliased(model, alias)
    if version is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = models.artifact(str(version.run_id), record.VALIDATION, Path(folder))
        validation = None if path is None else record.read_validation(path)
    # the run of an imported version is not the run that trained it
    run_id = version.tags.get("run_id", str(version.run_id))
    return Holder(str(version.version), run_id, version.tags.get("data", ""), validation)


def choices(
    trained: Sequence[Candidate], params: Promote, allowed: Collection[str]
) -> list[Choice]:
    """Compare the candidates for `champion`, and for the alias of each kind of data.

    Parameters
    ----------
    trained : sequence of Candidate
        From `candidates`.
    params : Promote
        Section `promote` of `params.yaml`.
    allowed : collection of str
        Keys of `selection.ALLOWABLE` that do not exclude.

    Returns
    -------
    list of Choice
        One per alias; that for `champion` is first.
    """
    withdrawn = {
        v.tags.get("run_id", "") for v in models.versions(params.model) if WITHDRAWN in v.tags
    }
    kinds = dict.fromkeys(alias_of_kind(candidate.run) for candidate in trained)
    made, rounds = [], ledger.read(params.model)
    for alias in (tracking.CHAMPION, *kinds):
        eligible = [c for c in trained if alias in (tracking.CHAMPION, alias_of_kind(c.run))]
        holder = holder_of(params.model, alias)
        compared = compare_candidates(
            eligible,
            holder,
            confidence=params.confidence,
            samples=params.bootstrap,
            seed=params.seed,
            ledger=rounds,
            allowed=allowed,
            withdrawn=withdrawn,
        )
        opened = _opened(compared, rounds)
        rounds += opened
        made.append(Choice(alias, holder, compared, opened))
    return made


def _opened(compared: Sequence[Candidate], rounds: Sequence[Round]) -> list[Round]:
    """Comparisons of these candidates that are not among `rounds`, each once."""
    new = [c.round for c in compared if c.round is not None and c.round not in rounds]
    return list({one.number: one for one in new}.values())


def stage_of(run: record.Run) -> str:
    """Name of the DVC stage that trains a network."""
    if run.network == "best":
        return f"train-best@{run.survey.dataset}"
    return f"train@{run.survey.dataset}-{run.network}"


def check_model(run: record.Run) -> None:
    """Check that MLflow still has a candidate's model, unchanged, and that it can be loaded.

    Raises
    ------
    InputError
        When its run or its files are missing or changed, or are not the network of `run`.
    """
    again = f"train again with `dvc repro --force --single-item {stage_of(run)}`"
    if not tracking.run_exists(run.run_id):
        raise InputError(
            f"MLflow has no run {run.run_id} of {run.network}: restore its mlruns/, or {again}"
        )
    with tempfile.TemporaryDirectory() as folder:
        files = logged.fetch_model(run.model_uri, Path(folder))
        if files_sha256(files) != run.model_sha256:
            raise InputError(
                f"the files of {run.model_uri} changed since {run.network} was trained: restore "
                f"MLflow's artifacts, or {again}"
            )
        blueprint = stored.read_model(files, f"{run.model_uri} of {run.network}").blueprint
    if blueprint != run.blueprint:
        raise InputError(f"{run.model_uri} is not the network of {run.network}'s run.json: {again}")


def promote_best(
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
        Section `promote` of `params.yaml`.
    train : Train
        Section `train`, which lists the networks.
    paths : Paths
        Files of the stages.
    allowed : collection of str
        Keys of `selection.ALLOWABLE` that do not exclude.
    dry_run : bool
        Print the comparison and the decision, and change nothing.

    Raises
    ------
    InputError
        When there is no champion and no network may be promoted, when the model of a winner is
        missing or changed, or when another promotion moved an alias or compared on the same
        validation images since the comparison.
    """
    tested = read_tested(paths)
    trained = candidates(train, tested, paths)
    if dry_run:
        tracking.open_to_read(paths.store)
    else:
        experiment = tracking.connect(paths.store)
    made = choices(trained, params, allowed)
    champion = made[0]
    print(candidate_table(champion.candidates, champion.holder))
    decision = describe(champion, made[1:])
    if champion.winner is None and champion.holder is None:
        best = champion.candidates[0]
        raise InputError(
            f"no network can be promoted; the best, {best.run.network}: {best.against}"
        )
    if dry_run:
        print(summary(params.model, decision) + " (a dry run: nothing was changed)")
        return
    for run in {c.winner.run.run_id: c.winner.run for c in made if c.winner}.values():
        check_model(run)
    with (
        tracking.run(experiment, "promote", params=params.model_dump(), tags={"stage": "promote"}),
        replace_folder(paths.promoted) as partial,
    ):
        if any(choice.winner or choice.opened for choice in made):
            move_aliases(params.model, made, decision, tested)
        path = partial / "decision.json"
        path.write_text(json.dumps(decision, indent=2) + "\n")
        tracking.log_file(path)
    print(summary(params.model, decision))


def move_aliases(
    model: str, made: Sequence[Choice], decision: dict[str, Any], tested: Tested
) -> None:
    """Keep new comparisons, register the winners and move the aliases.

    `version` and `aliases` are set in `decision` if an alias moves.

    Comparisons are kept first: those of a killed process stay counted.

    Raises
    ------
    InputError
        When another promotion moved an alias or compared on the same validation images since the
        comparison, or holds the lock too long.
    """
    compared = {c.alias: c.holder.version if c.holder else None for c in made}
    with models.locked(model):
        models.check_unmoved(model, compared)
        ledger.write(model, [one for choice in made for one in choice.opened])
        aliases: dict[str, str] = {}
        for choice in made:
            if choice.winner is None:
                continue
            described = decision if choice is made[0] else describe(choice, [])
            version = _version(model, choice.winner, described, tested[choice.winner.name])
            if choice.alias == tracking.CHAMPION and choice.holder is not None:
                aliases[tracking.PREVIOUS] = choice.holder.version
            aliases[choice.alias] = version
        if aliases:
            event = {key: decision[key] for key in ("who", "when", "why")}
            models.move(model, aliases, {"what": "promote", **event})
            decision["version"] = aliases.get(tracking.CHAMPION, compared[tracking.CHAMPION])
            decision["aliases"] = aliases


def _version(
    model: str, winner: Candidate, decision: Mapping[str, Any], tested: Mapping[str, float]
) -> str:
    """Register the winner with tags and model card; return the number of its version."""
    run = winner.run
    tags = {key: _text(value) for key, value in decision.items() if key != "kinds"}
    version = models.register(model, run.model_uri, run.run_id, tags)
    number = str(version.version)
    assert winner.validation is not None
    assert winner.nulls is not None  # else `null_refusal` would exclude it
    card = model_card(model, number, run, winner.validation, tested, winner.nulls, decision)
    models.describe(version, card)
    return number


def _text(value: Any) -> str:
    """Value of a tag: JSON for a mapping, else `str`."""
    return json.dumps(value) if isinstance(value, dict) else str(value)


if __name__ == "__main__":
    main()
