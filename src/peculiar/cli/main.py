"""The command line: `peculiar predict`, `place`, `inspect`, and the registry's commands.

The pipeline itself is `dvc repro` (or `make repro`).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from peculiar.core.errors import InputError, one_sentence
from peculiar.core.photometry import BANDS, SPEED_OF_LIGHT_MS

# Modules that take seconds to import (torch, MLflow) are imported by the command that needs them.


def parser() -> argparse.ArgumentParser:
    """The arguments of all commands."""
    whole = argparse.ArgumentParser(prog="peculiar", description=__doc__.splitlines()[0])
    commands = whole.add_subparsers(dest="command", required=True)

    add = commands.add_parser("predict", help="distance and velocity from the promoted network")
    add.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="INPUT",
        help="FITS files: Illustris, TNG SKIRT, NASA-Sloan Atlas; or one catalogue "
        "(.csv, .ecsv, .parquet, FITS table: path or id, cz_kms, and if need be "
        "cz_error_kms, distance_mpc, camera), or a folder that fetch or observe "
        "wrote",
    )
    add.add_argument(
        "--at",
        nargs="+",
        type=float,
        metavar="MPC",
        help="distances to place a simulated galaxy at",
    )
    add.add_argument(
        "--cz",
        type=float,
        metavar="KM/S",
        help="redshift times speed of light; else a real galaxy's own",
    )
    add.add_argument("--cz-error", type=float, metavar="KM/S", default=0.0, help="its error")
    add.add_argument("--catalogue", type=Path, help="NASA-Sloan Atlas, for its images")
    add.add_argument("--output", type=Path, help="table to write: .ecsv, .csv, .fits or .parquet")
    add.add_argument(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="what a catalogue's paths are relative to, or holds its ids; else the "
        "catalogue's own folder",
    )
    add.add_argument(
        "--pictures", type=Path, metavar="FOLDER", help="a picture of each galaxy of a catalogue"
    )
    add.add_argument("--scheduler", metavar="TCP://...", help="Dask's, to predict a catalogue with")

    add = commands.add_parser("place", help="picture of a galaxy at several distances (figure 2)")
    add.add_argument("file", type=Path, help="Illustris or TNG SKIRT FITS file")
    add.add_argument("--at", nargs="+", type=float, default=[50, 60, 75, 100], metavar="MPC")
    add.add_argument("--bands", default="".join(BANDS), help="for example griz")
    add.add_argument("--camera", type=int, default=0)
    add.add_argument("--output", type=Path, required=True, help="picture to write: .png or .pdf")

    add = commands.add_parser("inspect", help="what image files hold: scales, units, magnitudes")
    add.add_argument("files", nargs="+", type=Path, help="FITS files of any supported layout")
    add.add_argument("--png", type=Path, help="picture of the galaxies to write: .png or .pdf")
    add.add_argument(
        "--catalogue",
        type=Path,
        metavar="FITS",
        help="nsa_v0_1_2.fits, for images of the NASA-Sloan Atlas",
    )

    add = commands.add_parser("standin", help="write stand-in galaxies as broadband FITS files")
    add.add_argument("folder", type=Path)
    add.add_argument("--galaxies", type=int, default=1)
    add.add_argument("--seed", type=int, default=1)

    add = commands.add_parser("promote", help="weigh the trained networks, promote the best")
    add.add_argument("--dry-run", action="store_true", help="only say what would be done")
    add.add_argument(
        "--allow",
        nargs="+",
        default=[],
        metavar="WHAT",
        choices=["other-data", "leaking-split", "literal-dimming", "withdrawn"],
        help="let through what is kept out: other-data leaking-split literal-dimming withdrawn",
    )

    add = commands.add_parser("rollback", help="make the champion before champion again")
    add.add_argument("--why", required=True, help="reason, kept in the history")

    add = commands.add_parser("serve", help="serve the champion over HTTP on 127.0.0.1")
    add.add_argument("--port", type=int, default=5001)

    add = commands.add_parser("reproduce", help="train a version again and compare")
    add.add_argument("version", help="number, or an alias such as champion")
    add.add_argument("--keep", type=Path, metavar="FOLDER", help="for the worktree, to be kept")

    add = commands.add_parser("export", help="write the registry into a folder of plain files")
    add.add_argument("folder", type=Path)

    add = commands.add_parser("import", help="register what `export` wrote in the present store")
    add.add_argument("folder", type=Path)
    return whole


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command."""
    chosen = parser().parse_args(arguments)
    with one_sentence():
        COMMANDS[chosen.command](chosen)


def _check_output(output: Path, endings: Sequence[str], option: str = "--output") -> None:
    if output.suffix not in endings:
        raise InputError(f"{option} {output}: end its name in {', '.join(endings)}")
    if not output.parent.is_dir():
        raise InputError(f"{option} {output}: make the folder {output.parent} first")


def _check_distances(distances_mpc: Sequence[float]) -> None:
    for distance in distances_mpc:
        if not 0 < distance < float("inf"):
            raise InputError(f"--at {distance:g}: a distance must be positive: correct it")


def predict(chosen: argparse.Namespace) -> None:
    """Print, and write if asked, the predictions for some files, or those for a catalogue."""
    from astropy.table import vstack

    from peculiar.core.params import load
    from peculiar.galaxies.formats import read_galaxy
    from peculiar.galaxies.nsa import read_catalogue
    from peculiar.galaxies.sources import SOURCE_LABELS
    from peculiar.predict.catalogue import is_catalogue
    from peculiar.predict.files import is_real, load_champion, predict_galaxy, predict_real
    from peculiar.predict.tables import check_output, write_table
    from peculiar.registry.params import Promote

    _check_distances(chosen.at or [])
    if chosen.output:
        check_output(chosen.output)
    if chosen.cz is not None and not abs(chosen.cz) < SPEED_OF_LIGHT_MS / 1e3:
        raise InputError(f"--cz {chosen.cz:g}: give a speed in km/s below that of light")
    if not 0 <= chosen.cz_error < SPEED_OF_LIGHT_MS / 1e3:
        raise InputError(f"--cz-error {chosen.cz_error:g}: give a speed in km/s, not negative")
    if any(path.is_dir() or is_catalogue(path) for path in chosen.files):
        _predict_catalogue(chosen)
        return
    for option in ("images", "pictures", "scheduler"):
        if getattr(chosen, option):
            raise InputError(f"--{option} is for catalogues: give one, or leave it out")
    champion = load_champion(load(Promote).model)
    catalogue = read_catalogue(chosen.catalogue) if chosen.catalogue else None
    tables = []
    for path in chosen.files:
        galaxy = read_galaxy(path, champion.bands, catalogue)
        if is_real(galaxy):
            if chosen.at:
                raise InputError(f"{path} is of a real galaxy, which cannot be moved: drop --at")
            if not champion.data_source.startswith(SOURCE_LABELS["nsa"]):
                print(
                    f"{path.name}: the champion's errors were measured on what it was trained "
                    f"on ({champion.data_source}) and do not hold for real images: see "
                    "docs/results/real_galaxies"
                )
            table = predict_real(champion, galaxy, chosen.cz, chosen.cz_error)
        elif not chosen.at:
            raise InputError(f"{path} is of a simulated galaxy: say with --at how far to place it")
        else:
            table = predict_galaxy(champion, galaxy, chosen.at, chosen.cz, chosen.cz_error)
        table.add_column([path.name] * len(table), name="file", index=0)
        tables.append(table)
    whole = vstack(tables, metadata_conflicts="silent")
    grid = champion.grid_mpc
    known = "" if grid is None else f", knows galaxies of {grid[0]:.0f} to {grid[-1]:.0f} Mpc only"
    print(f"champion version {champion.version}, bands {champion.bands}{known}")
    print("\n".join(whole.pformat(max_lines=-1, max_width=-1)))
    if chosen.output:
        write_table(whole, chosen.output)


def _predict_catalogue(chosen: argparse.Namespace) -> None:
    """Write the predictions for a catalogue or a folder of shards."""
    from peculiar.core.params import load
    from peculiar.predict.batch import Job, predict_catalogue
    from peculiar.predict.images import source_of
    from peculiar.registry.champion import load_champion
    from peculiar.registry.params import Promote

    given = chosen.files[0]
    if len(chosen.files) > 1:
        raise InputError(f"{given} and other inputs: give one catalogue or folder by itself")
    if not chosen.output:
        raise InputError(f"{given} is a catalogue: say with --output where its predictions go")
    if chosen.cz is not None or chosen.cz_error:
        raise InputError("--cz and --cz-error are columns of a catalogue: cz_kms, cz_error_kms")
    if len(chosen.at or []) > 1:
        raise InputError("--at: a catalogue's galaxies are placed once each: give one distance")
    source = source_of(given, chosen.images, chosen.catalogue)
    champion = load_champion(load(Promote).model)
    if chosen.pictures:
        chosen.pictures.mkdir(parents=True, exist_ok=True)
    job = Job(
        champion.model,
        champion.version,
        champion.digest,
        source,
        chosen.at[0] if chosen.at else float("nan"),
        chosen.pictures and chosen.pictures.resolve(),
    )
    count = predict_catalogue(champion, job, given, chosen.output, chosen.scheduler)
    print(
        f"champion version {champion.version}, {champion.digest[:12]}: wrote {count} rows to "
        f"{chosen.output}"
    )


def place(chosen: argparse.Namespace) -> None:
    """Draw one galaxy at several distances."""
    from peculiar.cli.figures import placed_figure
    from peculiar.core.params import load
    from peculiar.galaxies.formats import read_galaxy
    from peculiar.mock.params import Observe
    from peculiar.predict.files import is_real, place_galaxy

    _check_distances(chosen.at)
    _check_output(chosen.output, [".png", ".pdf"])
    unknown = sorted(set(chosen.bands) - set(BANDS))
    if unknown or not chosen.bands:
        raise InputError(f"--bands {chosen.bands}: take letters of {''.join(BANDS)}")
    params = load(Observe)
    galaxy = read_galaxy(chosen.file, chosen.bands)
    if is_real(galaxy):
        raise InputError(f"{chosen.file} is of a real galaxy, which cannot be moved")
    if not 0 <= chosen.camera < len(galaxy.images):
        raise InputError(f"{chosen.file} has cameras 0 to {len(galaxy.images) - 1}")
    placed = place_galaxy(
        galaxy,
        chosen.at,
        pixels=params.pixels,
        pixel_scale_arcsec=params.pixel_scale_arcsec,
        dimming=params.dimming,
    )
    images = placed[:, chosen.camera].numpy()
    figure = placed_figure(images, chosen.at, chosen.bands, galaxy.source)
    figure.savefig(chosen.output, dpi=110)
    print(f"wrote {chosen.output}")


def inspect(chosen: argparse.Namespace) -> None:
    """Print, and draw if asked, what some files hold."""
    from peculiar.cli.figures import Portrait, thumbnail
    from peculiar.cli.inspect import describe, text
    from peculiar.core.params import load
    from peculiar.galaxies.formats import bands_in, read_galaxy
    from peculiar.galaxies.nsa import read_catalogue
    from peculiar.mock.params import Observe

    if chosen.png:
        _check_output(chosen.png, [".png", ".pdf"], "--png")
    catalogue = None if chosen.catalogue is None else read_catalogue(chosen.catalogue)
    H0 = load(Observe).H0_kms_mpc
    portraits = []
    for path in chosen.files:
        bands = bands_in(path)
        galaxy = read_galaxy(path, bands, catalogue)
        contents = describe(path, galaxy, bands, H0)
        print(text(contents))
        title = f"{path.name} (stand-in)" if contents.standin else path.name
        scales = float(contents.pixel_arcsec[0]), float(contents.pixel_kpc[0])
        portraits.append(Portrait(title, galaxy.images[0].copy(), bands, *scales))
    if chosen.png:
        thumbnail(portraits).savefig(chosen.png, dpi=110)
        print(f"wrote {chosen.png}")


def standin(chosen: argparse.Namespace) -> None:
    """Write stand-in broadband files, to try `fetch.source: files` with."""
    from peculiar.core.params import load
    from peculiar.galaxies.params import Fetch
    from peculiar.galaxies.standin.simulation import make_broadband

    if chosen.galaxies < 1:
        raise InputError(f"--galaxies {chosen.galaxies}: ask for at least one")
    if chosen.seed < 0:
        raise InputError(f"--seed {chosen.seed}: a seed must not be negative")
    parameters = load(Fetch).standin.model_copy(update={"seed": chosen.seed})
    chosen.folder.mkdir(parents=True, exist_ok=True)
    for number in range(chosen.galaxies):
        path = chosen.folder / f"broadband_{number}.fits"
        make_broadband(path, number, parameters)
        print(f"wrote {path}")


def promote(chosen: argparse.Namespace) -> None:
    """Weigh the networks in `results` and promote the best."""
    from peculiar.pipeline import promote

    dry_run = ["--dry-run"] if chosen.dry_run else []
    promote.main([*dry_run, *(["--allow", *chosen.allow] if chosen.allow else [])])


def rollback(chosen: argparse.Namespace) -> None:
    """Make the champion before champion again."""
    from peculiar.registry.rollback import rollback

    print(rollback(_model(), chosen.why))


def serve(chosen: argparse.Namespace) -> None:
    """Serve the champion until interrupted."""
    from peculiar.predict.server import serve

    serve(_model(), chosen.port)


def reproduce(chosen: argparse.Namespace) -> None:
    """Train a version again and compare; the exit code is 1 where they differ."""
    from peculiar.registry.reproduce import reproduce

    found = reproduce(_model(), chosen.version, chosen.keep)
    print(found.text())
    if not found.equal:
        raise SystemExit(1)


def export(chosen: argparse.Namespace) -> None:
    """Write the registry into a folder."""
    from peculiar.registry.exchange import export

    print(export(_model(), chosen.folder))


def import_(chosen: argparse.Namespace) -> None:
    """Register what `export` wrote."""
    from peculiar.registry.exchange import adopt

    print(adopt(chosen.folder))


def _model() -> str:
    """Name of our model in MLflow's registry."""
    from peculiar.core.params import load
    from peculiar.registry.params import Promote

    return load(Promote).model


COMMANDS = {
    "predict": predict,
    "place": place,
    "inspect": inspect,
    "standin": standin,
    "promote": promote,
    "rollback": rollback,
    "serve": serve,
    "reproduce": reproduce,
    "export": export,
    "import": import_,
}

if __name__ == "__main__":
    main()
