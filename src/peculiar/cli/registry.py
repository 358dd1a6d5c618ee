"""`peculiar registry`: versions of the model, and moving the champion."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from peculiar.cli.options import FORMATTER, Commands, add_command, add_store, aligned, model_name
from peculiar.core.errors import InputError

HEADER = (
    *("version", "alias", "network", "dataset", "data", "posterior rms [km/s]"),
    *("promoted", "by", "withdrawn"),
)


def add(commands: Commands) -> None:
    """Add `registry` and its own commands."""
    group = commands.add_parser(
        "registry",
        help="list, roll back, copy or reproduce promoted models",
        description="Promoted models. Each is a version with a number; the alias champion names the"
        "\nversion in use, previous the one before it.",
        epilog="example:\n  peculiar registry list",
        formatter_class=FORMATTER,
    )
    own = group.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_list(own)
    _add_rollback(own)
    _add_exchange(own)
    _add_reproduce(own)


def _add_list(commands: Commands) -> None:
    command = add_command(
        commands,
        "list",
        list_versions,
        "list all versions",
        "List all versions of the model: aliases, network, dataset, training data, posterior rms "
        "on the validation split, when and by whom it was promoted, and whether it was withdrawn.",
        "peculiar registry list",
    )
    add_store(command)


def _add_rollback(commands: Commands) -> None:
    command = add_command(
        commands,
        "rollback",
        rollback,
        "make the previous champion champion again",
        "Make the previous champion champion again, and mark the present one as withdrawn. A "
        "second rollback undoes the first.",
        'peculiar registry rollback --why "wrong seeing in the training images"',
    )
    command.add_argument("--why", required=True, metavar="REASON", help="kept in the history")
    add_store(command)


def _add_exchange(commands: Commands) -> None:
    command = add_command(
        commands,
        "export",
        export,
        "write all versions as plain files",
        "Write all versions of the model, with their tags and history, into a new folder of plain "
        "files with checksums.",
        "peculiar registry export registry",
    )
    command.add_argument("folder", type=Path, metavar="FOLDER", help="must not exist")
    command.add_argument(
        "--sign", type=Path, metavar="KEY", help="Ed25519 private key (PEM) to sign the export with"
    )
    add_store(command)
    command = add_command(
        commands,
        "import",
        import_,
        "register exported versions in this store",
        "Register the versions that `peculiar registry export` wrote. All files are checked "
        "first, and nothing of them is executed; versions that are registered already are skipped.",
        "peculiar registry import registry",
    )
    command.add_argument("folder", type=Path, metavar="FOLDER", help="from export")
    command.add_argument(
        "--verify",
        type=Path,
        metavar="PUBLIC_KEY",
        help="refuse an export that is not signed by this Ed25519 key (PEM)",
    )
    add_store(command)


def _add_reproduce(commands: Commands) -> None:
    command = add_command(
        commands,
        "reproduce",
        reproduce,
        "retrain a version and compare",
        "Retrain a version from the code, data and parameters it records, in a clean git worktree, "
        "and compare every validation metric and predicted distance. The exit code is 1 where they "
        "differ. Run it in the repository.",
        "peculiar registry reproduce champion",
    )
    command.add_argument("version", metavar="VERSION", help="number, or an alias such as champion")
    command.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep the worktree, in this new folder"
    )
    add_store(command)


def list_versions(arguments: argparse.Namespace) -> None:
    """Print a line a version, the newest first."""
    from peculiar.registry import models
    from peculiar.runs import tracking

    model = model_name()
    where = tracking.open_to_read(arguments.store)
    versions, aliases = models.versions(model), models.aliases_of(model)
    if not versions:
        raise InputError(f"{where} has no version of {model!r}: run `make repro`")
    rows = [_row(str(version.version), version.tags, aliases) for version in reversed(versions)]
    print(f"{model} in {where}\n{aligned([HEADER, *rows])}")


def _row(number: str, tags: Mapping[str, str], aliases: Mapping[str, str]) -> list[str]:
    """Cells of one version."""
    own = [alias for alias, holder in aliases.items() if holder == number]
    rms = tags.get("validation_posterior_rms_kms")
    return [
        number,
        ", ".join(own) or "-",
        *(tags.get(key, "-") for key in ("network", "dataset", "data_source")),
        "-" if rms in (None, "None") else _rounded(rms),
        *(tags.get(key, "-") for key in ("when", "who")),
        tags.get("withdrawn", "no"),
    ]


def _rounded(text: str) -> str:
    """A number without decimals; a tag that is none is shown as it is."""
    try:
        return f"{float(text):.0f}"
    except ValueError:
        return repr(text)


def rollback(arguments: argparse.Namespace) -> None:
    """Make the previous champion champion again."""
    from peculiar.registry.rollback import roll_back

    print(roll_back(model_name(), arguments.why, arguments.store))


def export(arguments: argparse.Namespace) -> None:
    """Write all versions into a folder."""
    from peculiar.registry.exchange import export

    print(export(model_name(), arguments.folder, arguments.store, arguments.sign))


def import_(arguments: argparse.Namespace) -> None:
    """Register what `export` wrote."""
    from peculiar.registry.exchange import adopt

    print(adopt(arguments.folder, arguments.store, arguments.verify))


def reproduce(arguments: argparse.Namespace) -> None:
    """Retrain a version and compare; the exit code is 1 where they differ."""
    from peculiar.registry.reproduce import retrain

    comparison = retrain(model_name(), arguments.version, arguments.keep, arguments.store)
    print(comparison.text())
    if not comparison.equal:
        raise SystemExit(1)
