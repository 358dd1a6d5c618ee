"""The stages of the pipeline as commands: `peculiar fetch` to `peculiar promote`."""

import argparse

from peculiar.cli.options import Commands, add_command

ALLOWABLE = ("other-data", "leaking-split", "literal-dimming", "paper-scale", "withdrawn")


def add(commands: Commands) -> None:
    """Add the seven stages."""
    add_command(
        commands,
        "fetch",
        fetch,
        "stage 1: read galaxies, or make stand-ins",
        "Read broadband images of galaxies from fetch.source of params.yaml: download them, read "
        "files, or simulate stand-ins. Writes images and a table of galaxies to data/fetch.",
        "peculiar fetch",
    )
    command = add_command(
        commands,
        "observe",
        observe,
        "stage 2: place galaxies at distances, as a survey sees them",
        "Give each image a distance and a peculiar velocity, and show it as a survey would: "
        "resampled to the survey's pixels, dimmed, with seeing and noise. Reads data/fetch, writes "
        "data/observe/DATASET.",
        "peculiar observe --dataset uniform",
    )
    command.add_argument("--dataset", required=True, help="one of observe.datasets in params.yaml")
    add_command(
        commands,
        "search",
        search,
        "stage 3: search for the best network",
        "Search for the best network with Optuna, on the training and validation splits only. "
        "After an interruption the same command resumes the search. Writes results/search.",
        "peculiar search",
    )
    command = add_command(
        commands,
        "train",
        train,
        "stage 4: train one network",
        "Train a network to predict the distance of a galaxy from its image. Writes "
        "results/train/DATASET-NETWORK and a run in MLflow.",
        "peculiar train --dataset uniform --network cnn2",
    )
    command.add_argument("--dataset", required=True, help="one of train.datasets in params.yaml")
    command.add_argument(
        "--network",
        required=True,
        help="one of train.specs in params.yaml, or best (of the search)",
    )
    add_command(
        commands,
        "evaluate",
        evaluate,
        "stage 5: measure all networks on the test split",
        "Measure every trained network, and baselines without images, on the test split: errors of "
        "distance and velocity, and coverage. Writes results/evaluate; see `peculiar results`.",
        "peculiar evaluate",
    )
    add_command(
        commands,
        "nulls",
        nulls,
        "stage 6: check that no network reads the renderer",
        "Test every trained network on scenes without information on distance, and on the same "
        "stars rendered in other ways. A network whose predictions change cannot be promoted. "
        "Writes results/nulls.",
        "peculiar nulls",
    )
    _add_promote(commands)


def _add_promote(commands: Commands) -> None:
    command = add_command(
        commands,
        "promote",
        promote,
        "stage 7: promote the best network to champion",
        "Compare the trained networks with the champion on the same validation images, and make "
        "the best one champion if it is better with the confidence that promote.confidence asks "
        "for over all comparisons on these images, and passes its null tests.",
        "peculiar promote --dry-run",
    )
    command.add_argument(
        "--dry-run", action="store_true", help="print the comparison and change nothing"
    )
    command.add_argument(
        "--allow",
        nargs="+",
        default=[],
        metavar="REASON",
        choices=ALLOWABLE,
        help="promote in spite of these reasons against a network: " + ", ".join(ALLOWABLE),
    )


def fetch(_: argparse.Namespace) -> None:
    """Run the stage `fetch`."""
    from peculiar.pipeline import fetch

    fetch.main([])


def observe(arguments: argparse.Namespace) -> None:
    """Run the stage `observe`."""
    from peculiar.pipeline import observe

    observe.main(["--dataset", arguments.dataset])


def search(_: argparse.Namespace) -> None:
    """Run the stage `search`."""
    from peculiar.pipeline import search

    search.main([])


def train(arguments: argparse.Namespace) -> None:
    """Run the stage `train`."""
    from peculiar.pipeline import train

    train.main(["--dataset", arguments.dataset, "--network", arguments.network])


def evaluate(_: argparse.Namespace) -> None:
    """Run the stage `evaluate`."""
    from peculiar.pipeline import evaluate

    evaluate.main([])


def nulls(_: argparse.Namespace) -> None:
    """Run the stage `nulls`."""
    from peculiar.pipeline import nulls

    nulls.main([])


def promote(arguments: argparse.Namespace) -> None:
    """Run the stage `promote`."""
    from peculiar.pipeline import promote

    allow = ["--allow", *arguments.allow] if arguments.allow else []
    promote.main([*(["--dry-run"] if arguments.dry_run else []), *allow])
