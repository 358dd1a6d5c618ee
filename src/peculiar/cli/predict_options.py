"""Options of `peculiar predict`, and which numbers they cannot have."""

import argparse
from math import isnan
from pathlib import Path

from peculiar.cli.options import (
    add_atlas,
    add_columns,
    add_distances,
    add_model,
    check_distances,
    check_inputs,
    keep_inputs,
)
from peculiar.core.errors import InputError


def add_options(command: argparse.ArgumentParser) -> None:
    """Add its options, and the input."""
    command.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="INPUT",
        help="FITS images (Illustris, TNG SKIRT or NASA-Sloan Atlas), or one folder, or one "
        "catalogue (CSV, ECSV, Parquet, FITS, VOTable or IPAC) with the columns path or id, "
        "cz_kms, and optionally cz_error_kms, cz_frame, ra, dec, v_prior_kms, v_prior_error_kms, "
        "ebv or extinction_u to extinction_z, distance_mpc, camera",
    )
    add_distances(command)
    command.add_argument(
        "--cz",
        type=float,
        metavar="KM/S",
        help="redshift times the speed of light; default: the value in a real galaxy's file",
    )
    command.add_argument(
        "--cz-error",
        type=float,
        metavar="KM/S",
        default=0.0,
        help="its standard deviation; default: 0",
    )
    command.add_argument(
        "--frame",
        choices=("heliocentric", "lg", "cmb"),
        help="frame of --cz, or of a catalogue's rows without cz_frame; velocities are in the "
        "CMB's frame where frame and position are known, and else flagged",
    )
    command.add_argument(
        "--cosmology",
        choices=("hubble", "flat_lambda_cdm"),
        help="law of distance and redshift: D_z = cz / H0, or with the matter density 0.3; "
        "default: hubble for simulated galaxies, flat_lambda_cdm for real ones",
    )
    for option, name in (("--ra", "right ascension"), ("--dec", "declination")):
        command.add_argument(
            option,
            type=float,
            metavar="DEG",
            default=float("nan"),
            help=f"{name} (ICRS) of a real galaxy; default: that of its file",
        )
    command.add_argument(
        "--ebv",
        type=float,
        metavar="MAG",
        default=float("nan"),
        help="E(B-V) by the Milky Way's dust (SFD) to remove from a real galaxy's image; default: "
        "the extinction of the Atlas, if --atlas has it",
    )
    command.add_argument(
        "--dust",
        choices=("sfd",),
        help="take E(B-V) at a galaxy's position from the maps of Schlegel, Finkbeiner & Davis, "
        "where neither row nor file gives it; needs the optional extra dust",
    )
    add_atlas(command)
    command.add_argument(
        "--prior",
        metavar="NAME|FILE",
        help="prior on the distance: uniform, volume (D^2), flux-limited (SDSS' r < 17.77), "
        "or of another survey 'flux-limited(limit=M, M_star=M, alpha=A)', training (that of the "
        "training images), or a table of distance_mpc and density; "
        "default: uniform, or training for a model that was registered before there was a choice",
    )
    command.add_argument(
        "--output",
        type=Path,
        metavar="TABLE",
        help="table to write: .ecsv, .csv, .fits or .parquet; required for a catalogue",
    )
    command.add_argument(
        "--density",
        action="store_true",
        help="also write p(D | image) with the prior, the probability of each cell of a grid of "
        "distances, as the column p_D",
    )
    add_model(command)
    _add_catalogue_options(command)


def _add_catalogue_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="folder of a catalogue's images; default: the folder of the catalogue",
    )
    command.add_argument(
        "--pictures",
        type=Path,
        metavar="FOLDER",
        help="folder for a picture of each galaxy of a catalogue",
    )
    command.add_argument(
        "--scheduler",
        metavar="TCP://HOST:PORT",
        help="Dask scheduler whose workers predict a catalogue",
    )
    add_columns(command)


def check_options(arguments: argparse.Namespace) -> None:
    """Refuse impossible numbers, missing inputs, and outputs that cannot be written."""
    from peculiar.core.files import check_output
    from peculiar.core.photometry import SPEED_OF_LIGHT_MS
    from peculiar.predict.dust import MOST_EBV
    from peculiar.predict.tables import ENDINGS

    check_distances(arguments.at or [])
    inputs = [*arguments.files, *([arguments.atlas] if arguments.atlas else [])]
    if arguments.output:
        check_output(arguments.output, ENDINGS)
        priors = [Path(arguments.prior)] if arguments.prior else []
        keep_inputs(arguments.output, [*inputs, *priors])
    if arguments.cz is not None and not abs(arguments.cz) < SPEED_OF_LIGHT_MS / 1e3:
        raise InputError(f"--cz {arguments.cz:g}: give a speed in km/s below that of light")
    if not 0 <= arguments.cz_error < SPEED_OF_LIGHT_MS / 1e3:
        raise InputError(f"--cz-error {arguments.cz_error:g}: give a speed in km/s, not negative")
    if not (isnan(arguments.ra) or 0 <= arguments.ra <= 360):
        raise InputError(f"--ra {arguments.ra:g}: give degrees from 0 to 360")
    if not (isnan(arguments.dec) or -90 <= arguments.dec <= 90):
        raise InputError(f"--dec {arguments.dec:g}: give degrees from -90 to 90")
    if not (isnan(arguments.ebv) or 0 <= arguments.ebv <= MOST_EBV):
        raise InputError(f"--ebv {arguments.ebv:g}: give magnitudes from 0 to {MOST_EBV:g}")
    if isnan(arguments.ra) != isnan(arguments.dec):
        raise InputError("--ra and --dec make one position: give both, or neither")
    check_inputs(inputs)
