"""`peculiar place`, `inspect` and `standin`: files of galaxies, without any model."""

import argparse
from dataclasses import replace
from pathlib import Path

from peculiar.cli.options import (
    Commands,
    add_atlas,
    add_command,
    add_distances,
    check_distances,
    check_inputs,
)
from peculiar.core.errors import InputError
from peculiar.core.files import check_output

BANDS = "ugriz"
UNSEEN_SEED = 7  # no network of `make repro` was trained on its galaxies
PICTURES = (".png", ".pdf")


def add(commands: Commands) -> None:
    """Add `place`, `inspect` and `standin`."""
    command = add_command(
        commands,
        "place",
        place,
        "draw a simulated galaxy at several distances",
        "Draw a simulated galaxy at several distances, in the pixels of observe in params.yaml, "
        "without sky or noise: a row a band and a column a distance (figure 2 of the paper).",
        "peculiar place galaxy.fits --at 50 75 100 --bands gri --output galaxy.png",
    )
    command.add_argument("file", type=Path, metavar="FITS", help="Illustris or TNG SKIRT image")
    add_distances(command, [50, 60, 75, 100])
    command.add_argument("--bands", default=BANDS, help=f"SDSS bands; default: {BANDS}")
    command.add_argument("--camera", type=int, default=0, help="viewing direction; default: 0")
    command.add_argument(
        "--output", type=Path, required=True, metavar="PICTURE", help="file to write: .png or .pdf"
    )
    command = add_command(
        commands,
        "inspect",
        inspect,
        "print what image files hold",
        "Print what image files hold: format, pixel scales, units, redshift and magnitudes, "
        "computed from the pixels and as the file states them.",
        "peculiar inspect galaxy.fits --png galaxy.png",
    )
    command.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FITS",
        help="Illustris, TNG SKIRT or NASA-Sloan Atlas images",
    )
    command.add_argument(
        "--png", type=Path, metavar="PICTURE", help="picture of the galaxies to write: .png or .pdf"
    )
    add_atlas(command)
    command = add_command(
        commands,
        "standin",
        standin,
        "write stand-in galaxies as FITS files",
        "Simulate stand-in galaxies and write them in the format of the Illustris broadband "
        "images. They are made to try the programs; they are not data.",
        "peculiar standin galaxies --galaxies 3 --seed 7",
    )
    command.add_argument("folder", type=Path, metavar="FOLDER", help="made if it is missing")
    command.add_argument("--galaxies", type=int, default=1, help="number of galaxies; default: 1")
    command.add_argument(
        "--seed",
        type=int,
        default=UNSEEN_SEED,
        help=f"random seed; default: {UNSEEN_SEED}, other galaxies than those of the default "
        "dataset (fetch.standin.seed: 1)",
    )
    command.add_argument("--pixels", type=int, help="side of the images; default: as params.yaml")
    command.add_argument(
        "--field-of-view",
        type=float,
        metavar="KPC",
        help="side of the images, kpc; default: as params.yaml",
    )


def place(arguments: argparse.Namespace) -> None:
    """Draw one galaxy at several distances."""
    check_distances(arguments.at)
    check_output(arguments.output, PICTURES)
    if not arguments.bands or set(arguments.bands) - set(BANDS):
        raise InputError(f"--bands {arguments.bands}: use letters of {BANDS}")
    check_inputs([arguments.file])
    from peculiar.cli.figures import placed_figure
    from peculiar.core.cosmography import Cosmography
    from peculiar.core.params import load, params_or_defaults
    from peculiar.galaxies.formats import read_galaxy
    from peculiar.mock.images import read_kpc
    from peculiar.mock.params import Observe
    from peculiar.predict.view import is_real, place_galaxy

    survey = load(Observe, params_or_defaults())
    galaxy = read_galaxy(arguments.file, arguments.bands)
    if is_real(galaxy):
        raise InputError(f"{arguments.file} is of a real galaxy, which cannot be moved")
    if not 0 <= arguments.camera < len(galaxy.images):
        raise InputError(
            f"--camera {arguments.camera}: {arguments.file} has cameras 0 to "
            f"{len(galaxy.images) - 1}"
        )
    kpc_per_pixel = read_kpc(survey.scale, galaxy.kpc_per_pixel, galaxy.images.shape[-1])
    placed = place_galaxy(
        replace(galaxy, kpc_per_pixel=kpc_per_pixel),
        arguments.at,
        pixels=survey.pixels,
        pixel_scale_arcsec=survey.pixel_scale_arcsec,
        dimming=survey.dimming,
        psf_fwhm_arcsec=survey.psf_fwhm_arcsec,
        law=Cosmography(survey.cosmology, survey.H0_kms_mpc),
    )
    images = placed[:, arguments.camera].numpy()
    figure = placed_figure(images, arguments.at, arguments.bands, galaxy.source)
    figure.savefig(arguments.output, dpi=110)
    print(f"wrote {arguments.output}")


def inspect(arguments: argparse.Namespace) -> None:
    """Print what files hold, and draw them if asked to."""
    if arguments.png:
        check_output(arguments.png, PICTURES, "--png")
    from peculiar.cli.figures import Portrait, thumbnail
    from peculiar.cli.inspect import describe, text
    from peculiar.core.params import load, params_or_defaults
    from peculiar.galaxies.formats import bands_in, read_galaxy
    from peculiar.galaxies.nsa import read_catalogue
    from peculiar.mock.params import Observe

    atlas = None if arguments.atlas is None else read_catalogue(arguments.atlas)
    H0 = load(Observe, params_or_defaults()).H0_kms_mpc
    portraits = []
    for path in arguments.files:
        bands = bands_in(path)
        galaxy = read_galaxy(path, bands, atlas)
        contents = describe(path, galaxy, bands, H0)
        print(text(contents))
        title = f"{path.name} (stand-in)" if contents.standin else path.name
        scales = float(contents.pixel_arcsec[0]), float(contents.pixel_kpc[0])
        portraits.append(Portrait(title, galaxy.images[0].copy(), bands, *scales))
    if arguments.png:
        thumbnail(portraits).savefig(arguments.png, dpi=110)
        print(f"wrote {arguments.png}")


def standin(arguments: argparse.Namespace) -> None:
    """Write stand-in galaxies."""
    if arguments.galaxies < 1:
        raise InputError(f"--galaxies {arguments.galaxies}: ask for at least one")
    if arguments.seed < 0:
        raise InputError(f"--seed {arguments.seed}: a seed must not be negative")
    from peculiar.cli.inspect import is_standin
    from peculiar.core.params import load, params_or_defaults, validate
    from peculiar.galaxies.params import Fetch, StandIn
    from peculiar.galaxies.standin.simulation import make_broadband

    values = load(Fetch, params_or_defaults()).standin.model_dump() | {"seed": arguments.seed}
    if arguments.pixels is not None:
        values["pixels"] = arguments.pixels
    if arguments.field_of_view is not None:
        values |= {"field_of_view_kpc": arguments.field_of_view, "field_of_view_radii": None}
    parameters = validate(StandIn, values, "peculiar standin")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    paths = [arguments.folder / f"broadband_{number}.fits" for number in range(arguments.galaxies)]
    for path in paths:
        if path.exists() and not is_standin(path):
            raise InputError(f"{path} is no stand-in and would be lost: name another folder")
    for number, path in enumerate(paths):
        make_broadband(path, number, parameters)
        print(f"wrote {path}")
