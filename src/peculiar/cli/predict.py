"""`peculiar predict` and `peculiar serve`: distances and velocities from the champion."""

import argparse
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

from peculiar.cli.options import (
    CHAMPION,
    Commands,
    add_command,
    add_model,
    columns_named,
    model_name,
)
from peculiar.cli.predict_options import add_options, check_options
from peculiar.core.errors import InputError

if TYPE_CHECKING:  # takes seconds to import
    from astropy.table import QTable

    from peculiar.predict.priors import DistancePrior
    from peculiar.registry.champion import Champion

FOR_CATALOGUES = ("images", "pictures", "scheduler", "column")


def add(commands: Commands) -> None:
    """Add `predict`."""
    command = add_command(
        commands,
        "predict",
        print_predictions,
        "predict distances and velocities",
        "Predict the distance of each galaxy from its image, and with its redshift the posterior "
        "of its peculiar velocity. The input is images, one catalogue, or one folder that fetch or "
        "observe wrote.",
        "peculiar predict galaxy.fits --at 60 90 --cz 5000",
    )
    add_options(command)


def add_serve(commands: Commands) -> None:
    """Add `serve`."""
    command = add_command(
        commands,
        "serve",
        serve,
        "serve the champion over HTTP",
        "Serve the champion over HTTP on 127.0.0.1 until interrupted: images in, distances and "
        "their errors out.",
        "peculiar serve --port 5001",
    )
    command.add_argument("--port", type=int, default=5001, help="default: 5001")
    add_model(command)


def print_predictions(arguments: argparse.Namespace) -> None:
    """Print the predictions for images, or write those for a catalogue."""
    check_options(arguments)
    from peculiar.predict.catalogue import is_catalogue

    if any(path.is_dir() or is_catalogue(path) for path in arguments.files):
        _predict_catalogue(arguments)
        return
    for option in FOR_CATALOGUES:
        if getattr(arguments, option):
            raise InputError(f"--{option} is for catalogues: give a catalogue, or leave it out")
    if arguments.density and not arguments.output:
        raise InputError("--density is for tables in files: name one with --output")
    _predict_images(arguments)


def _predict_images(arguments: argparse.Namespace) -> None:
    """Print a table of predictions, and write it if asked to."""
    from peculiar.galaxies.nsa import read_catalogue
    from peculiar.predict.columns import DENSITY, EXTINCTION, USED
    from peculiar.predict.densities import check_density
    from peculiar.predict.files import stacked
    from peculiar.predict.tables import write_table
    from peculiar.registry.champion import load_champion

    champion = load_champion(model_name(), arguments.store, arguments.model)
    atlas = read_catalogue(arguments.atlas) if arguments.atlas else None
    prior = _prior(champion, arguments)
    if arguments.density:
        check_density(champion)
    tables = [_predict_image(path, champion, atlas, arguments, prior) for path in arguments.files]
    table = stacked(champion, tables)
    ends = champion.range_mpc
    limits = "" if ends is None else f", for distances of {ends[0]:.0f} to {ends[1]:.0f} Mpc"
    version = f"version {champion.version}"
    named = f"champion {version}" if arguments.model == CHAMPION else version
    print(
        f"{named}, trained on {champion.data_source}, bands {champion.bands}{limits}, "
        f"prior {prior.describe(champion)}"
    )
    shown = table[[name for name in table.colnames if name not in USED | EXTINCTION | DENSITY]]
    print("\n".join(shown.pformat(max_lines=-1, max_width=-1)))
    if arguments.output:
        write_table(table, arguments.output)


def _prior(champion: "Champion", arguments: argparse.Namespace) -> "DistancePrior":
    """The prior asked for, or the champion's default; checked."""
    from peculiar.predict.priors import check_prior, default_prior, prior_named

    prior = default_prior(champion) if arguments.prior is None else prior_named(arguments.prior)
    check_prior(champion, prior)
    return prior


def _predict_image(
    path: Path,
    champion: "Champion",
    atlas: "QTable | None",
    arguments: argparse.Namespace,
    prior: "DistancePrior",
) -> "QTable":
    """Predictions for one file: a row a camera, and of a simulated galaxy a row a distance too."""
    from peculiar.core.frames import UNKNOWN
    from peculiar.galaxies.formats import read_galaxy
    from peculiar.galaxies.sources import SOURCE_LABELS
    from peculiar.predict.files import predict_galaxy, predict_real
    from peculiar.predict.tables import printable
    from peculiar.predict.view import is_real

    galaxy = read_galaxy(path, champion.bands, atlas)
    _check_redshift(path, is_real(galaxy), arguments)
    if not is_real(galaxy):
        if not arguments.at:
            raise InputError(f"{path} is of a simulated galaxy: give its distances with --at")
        if not isnan(arguments.ebv):
            raise InputError(f"{path} is of a simulated galaxy, behind no dust: drop --ebv")
        if arguments.dust:
            raise InputError(f"{path} is of a simulated galaxy, behind no dust: drop --dust")
        table = predict_galaxy(
            champion,
            galaxy,
            arguments.at,
            arguments.cz,
            arguments.cz_error,
            prior,
            arguments.cosmology,
            arguments.density,
        )
    elif arguments.at:
        raise InputError(f"{path} is of a real galaxy, which cannot be moved: drop --at")
    else:
        if not champion.data_source.startswith(SOURCE_LABELS["nsa"]):
            print(
                f"{printable(path.name)}: the model's errors were measured on its training data "
                f"({champion.data_source}) and do not hold for real images: see "
                "docs/results/real_galaxies"
            )
        table = predict_real(
            champion,
            galaxy,
            arguments.cz,
            arguments.cz_error,
            prior,
            frame=arguments.frame or UNKNOWN,
            ra_deg=arguments.ra,
            dec_deg=arguments.dec,
            cosmology=arguments.cosmology,
            ebv_mag=arguments.ebv,
            sfd=arguments.dust == "sfd",
            density=arguments.density,
        )
    table.add_column([printable(path.name)] * len(table), name="file", index=0)
    return table


def _check_redshift(path: Path, real: bool, arguments: argparse.Namespace) -> None:
    """Refuse what would be left unused: frames of no redshift, places of simulated galaxies."""
    if not real and (arguments.frame or not isnan(arguments.ra)):
        raise InputError(
            f"{path} is of a simulated galaxy, which has no place on the sky: drop --frame, --ra "
            "and --dec"
        )
    if not real and arguments.cz is None and arguments.cz_error:
        raise InputError(f"{path} has no redshift: give --cz too, or drop --cz-error")
    if real and arguments.cz is None and arguments.frame:
        raise InputError(
            f"--frame is of --cz, and the frame of the redshift in {path} is known: give --cz too, "
            "or drop --frame"
        )


def _predict_catalogue(arguments: argparse.Namespace) -> None:
    """Write the predictions for a catalogue or a folder of images."""
    _check_catalogue(arguments)
    from peculiar.core.frames import UNKNOWN
    from peculiar.predict.batch import predict_catalogue
    from peculiar.predict.images import source_of
    from peculiar.predict.rows import Job
    from peculiar.registry.champion import load_champion

    given, pictures = arguments.files[0], arguments.pictures
    columns = columns_named(arguments.column)
    source = source_of(given, arguments.images, arguments.atlas, columns)
    champion = load_champion(model_name(), arguments.store, arguments.model)
    prior = _prior(champion, arguments)
    if pictures:
        pictures.mkdir(parents=True, exist_ok=True)
    job = Job(
        champion.model,
        champion.version,
        champion.digest,
        source,
        arguments.at[0] if arguments.at else float("nan"),
        pictures and pictures.resolve(),
        prior,
        arguments.frame or UNKNOWN,
        arguments.cosmology,
        arguments.density,
        tuple(columns.items()),
        arguments.dust == "sfd",
    )
    count = predict_catalogue(
        champion, job, given, arguments.output, arguments.scheduler, store=arguments.store
    )
    print(
        f"{champion.model} version {champion.version}, {champion.digest[:12]}: wrote {count} rows "
        f"to {arguments.output}, prior {prior.describe(champion)}"
    )


def _check_catalogue(arguments: argparse.Namespace) -> None:
    """Refuse options that do not suit a catalogue."""
    given = arguments.files[0]
    if len(arguments.files) > 1:
        raise InputError(f"{given} and other inputs: give one catalogue or folder by itself")
    if not arguments.output:
        raise InputError(f"{given} is a catalogue: name the table to write with --output")
    if arguments.cz is not None or arguments.cz_error:
        raise InputError("--cz and --cz-error are columns of a catalogue: cz_kms, cz_error_kms")
    if arguments.column and given.is_dir():
        raise InputError(f"--column is for catalogues, and {given} is a folder: leave it out")
    if not isnan(arguments.ra):
        raise InputError("--ra and --dec are columns of a catalogue: ra, dec")
    if not isnan(arguments.ebv):
        raise InputError("--ebv is a column of a catalogue: ebv")
    if len(arguments.at or []) > 1:
        raise InputError("--at: a catalogue's galaxies are placed once each: give one distance")


def serve(arguments: argparse.Namespace) -> None:
    """Serve the champion until interrupted."""
    from peculiar.predict.server import serve

    serve(model_name(), arguments.port, arguments.store, arguments.model)
