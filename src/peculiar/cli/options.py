"""How commands are added to the parser, and the options and checks that several of them share."""

import argparse
import functools
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from peculiar.core.errors import InputError

# what add_subparsers returns, generic for type checkers only
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

CHAMPION = "champion"  # as in `peculiar.runs.tracking`, which imports MLflow
WIDTH = 88
# keeps the lines of descriptions and examples, and a command and its help on one line
FORMATTER = functools.partial(argparse.RawDescriptionHelpFormatter, max_help_position=28)


def add_command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], None],
    brief: str,
    description: str,
    example: str,
) -> argparse.ArgumentParser:
    """Add a command.

    Parameters
    ----------
    commands : argparse subparsers
        Takes the command.
    name : str
        What the user types.
    run : callable
        Called with the parsed arguments.
    brief : str
        A line for the list of commands.
    description : str
        A sentence or two for the command's own help.
    example : str
        A command line.

    Returns
    -------
    argparse.ArgumentParser
        Takes the command's options.
    """
    added = commands.add_parser(
        name,
        help=brief,
        description=textwrap.fill(description, WIDTH),
        epilog=f"example:\n  {example}",
        formatter_class=FORMATTER,
    )
    added.set_defaults(run=run)
    return added


def add_store(command: argparse.ArgumentParser) -> None:
    """The option `--store`."""
    command.add_argument(
        "--store",
        type=Path,
        metavar="FOLDER",
        help="folder of runs and models; default: mlruns/ in the folder that PECULIAR_HOME names, "
        "else in the working folder. A server named in MLFLOW_TRACKING_URI comes first",
    )


def add_model(command: argparse.ArgumentParser) -> None:
    """The options that name a promoted model: `--model` and `--store`."""
    command.add_argument(
        "--model",
        default=CHAMPION,
        metavar="VERSION",
        help="number or alias of the model's version; default: champion",
    )
    add_store(command)


def add_distances(command: argparse.ArgumentParser, default: Sequence[float] | None = None) -> None:
    """The option `--at`."""
    stated = f"; default: {' '.join(f'{mpc:g}' for mpc in default)}" if default else ""
    command.add_argument(
        "--at",
        nargs="+",
        type=float,
        default=default,
        metavar="MPC",
        help=f"distances in Mpc at which to place a simulated galaxy{stated}",
    )


def add_atlas(command: argparse.ArgumentParser) -> None:
    """The option `--atlas`."""
    command.add_argument(
        "--atlas",
        type=Path,
        metavar="FITS",
        help="table of the NASA-Sloan Atlas, nsa_v0_1_2.fits; needed for the atlas's own images",
    )


def add_columns(command: argparse.ArgumentParser) -> None:
    """The option `--column`."""
    command.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="OURS=THEIRS",
        help="a column that a catalogue calls otherwise, such as cz_kms=CZ or z=REDSHIFT (the "
        "redshift without a unit, in place of cz_kms); may be repeated",
    )


def columns_named(given: Sequence[str]) -> dict[str, str]:
    """The file's name of each column that `--column` gives, by ours."""
    from peculiar.predict.cells import COLUMNS, Z

    columns: dict[str, str] = {}
    for pair in given:
        ours, _, theirs = pair.partition("=")
        if not theirs:
            raise InputError(f"--column {pair}: give our name and the file's, such as cz_kms=CZ")
        if ours not in (*COLUMNS, Z):
            known = ", ".join((*COLUMNS, Z))
            raise InputError(f"--column {pair}: {ours} is none of {known}")
        if ours in columns:
            raise InputError(f"--column {pair}: {ours} is given twice")
        columns[ours] = theirs
    return columns


def check_distances(distances_mpc: Sequence[float]) -> None:
    """Refuse distances, Mpc, that are not positive and finite."""
    for distance in distances_mpc:
        if not 0 < distance < float("inf"):
            raise InputError(f"--at {distance:g}: a distance must be positive and finite")


def check_inputs(paths: Sequence[Path]) -> None:
    """Refuse a missing input, before anything slow is done."""
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} is missing: check the path")


def keep_inputs(output: Path, inputs: Sequence[Path]) -> None:
    """Refuse an output that would replace an input, or a FITS file that holds an image."""
    if not output.exists():
        return
    lost = "which would be lost: name another file"
    if any(path.exists() and output.samefile(path) for path in inputs):
        raise InputError(f"--output {output} is an input, {lost}")
    if output.suffix == ".fits" and _holds_image(output):
        raise InputError(f"--output {output} holds an image, {lost}")


def _holds_image(path: Path) -> bool:
    """Whether a file is FITS with an image, or FITS that cannot be read."""
    from peculiar.galaxies.fits import FITS, open_fits

    try:
        with open_fits(path) as hdus:
            return any(hdu.is_image and hdu.header.get("NAXIS", 0) for hdu in hdus)
    except InputError:
        with path.open("rb") as file:
            return file.read(len(FITS)) == FITS


def model_name() -> str:
    """Name of our model in MLflow's registry, `promote.model` of the parameters."""
    from peculiar.core.params import load, params_or_defaults
    from peculiar.registry.params import Promote

    return load(Promote, params_or_defaults()).model


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text as columns of equal width; the first row is the header."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
