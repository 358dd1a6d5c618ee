"""The command `peculiar`."""

import argparse
from collections.abc import Sequence

from peculiar import __version__
from peculiar.cli import flow, galaxies, predict, registry, results, stages
from peculiar.cli.options import FORMATTER
from peculiar.core.errors import one_sentence

# Modules that take seconds to import (torch, MLflow) are imported by the command that needs them.

DESCRIPTION = """\
Distances and peculiar velocities of nearby galaxies from their images.

The stages fetch, observe, search, train, evaluate and promote run in this order, in a folder
with a params.yaml; `make repro` or `dvc repro` runs those that are out of date. All other
commands run in any folder. The champion is the promoted model."""


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = argparse.ArgumentParser(
        prog="peculiar",
        description=DESCRIPTION,
        epilog="`peculiar COMMAND --help` describes a command and gives an example.",
        formatter_class=FORMATTER,
    )
    top.add_argument("--version", action="version", version=f"peculiar {__version__}")
    commands = top.add_subparsers(
        title="commands", dest="command", required=True, metavar="COMMAND"
    )
    stages.add(commands)
    predict.add(commands)
    flow.add(commands)
    galaxies.add(commands)
    predict.add_serve(commands)
    results.add(commands)
    registry.add(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command."""
    parsed = parser().parse_args(arguments)
    with one_sentence():
        parsed.run(parsed)


if __name__ == "__main__":
    main()
