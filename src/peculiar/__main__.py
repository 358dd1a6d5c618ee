"""The command line: `peculiar predict`, `peculiar place` and `peculiar standin`.

The pipeline itself is `dvc repro` (or `make repro`).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from peculiar.bands import BANDS, SPEED_OF_LIGHT_MS
from peculiar.errors import InputError, one_sentence

# Modules that take seconds to import (torch, MLflow) are imported by the command that needs them.


def parser() -> argparse.ArgumentParser:
    """The arguments of all commands."""
    whole = argparse.ArgumentParser(prog="peculiar", description=__doc__.splitlines()[0])
    commands = whole.add_subparsers(dest="command", required=True)

    add = commands.add_parser("predict", help="distance and velocity from the promoted network")
    add.add_argument("files", nargs="+", type=Path, help="Illustris or TNG SKIRT FITS files")
    add.add_argument("--at", nargs="+", type=float, required=True, metavar="MPC",
                     help="distances to place the simulated galaxy at")  # fmt: skip
    add.add_argument("--cz", type=float, metavar="KM/S", help="redshift times speed of light")
    add.add_argument("--output", type=Path, help="table to write: .ecsv, .csv or .fits")

    add = commands.add_parser("place", help="picture of a galaxy at several distances (figure 2)")
    add.add_argument("file", type=Path, help="Illustris or TNG SKIRT FITS file")
    add.add_argument("--at", nargs="+", type=float, default=[50, 60, 75, 100], metavar="MPC")
    add.add_argument("--bands", default="".join(BANDS), help="for example griz")
    add.add_argument("--camera", type=int, default=0)
    add.add_argument("--output", type=Path, required=True, help="picture to write: .png or .pdf")

    add = commands.add_parser("standin", help="write stand-in galaxies as broadband FITS files")
    add.add_argument("folder", type=Path)
    add.add_argument("--galaxies", type=int, default=1)
    add.add_argument("--seed", type=int, default=1)
    return whole


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command."""
    chosen = parser().parse_args(arguments)
    with one_sentence():
        COMMANDS[chosen.command](chosen)


def _check_output(output: Path, endings: Sequence[str]) -> None:
    if output.suffix not in endings:
        raise InputError(f"--output {output}: end its name in {', '.join(endings)}")
    if not output.parent.is_dir():
        raise InputError(f"--output {output}: make the folder {output.parent} first")


def _check_distances(distances_mpc: Sequence[float]) -> None:
    for distance in distances_mpc:
        if not 0 < distance < float("inf"):
            raise InputError(f"--at {distance:g}: a distance must be positive: correct it")


def predict(chosen: argparse.Namespace) -> None:
    """Print, and write if asked, the predictions for some files."""
    from astropy.table import vstack

    from peculiar.params import Promote, load
    from peculiar.predict import load_champion, predict_galaxy, read_galaxy

    _check_distances(chosen.at)
    formats = {".ecsv": "ascii.ecsv", ".csv": "ascii.csv", ".fits": "fits"}
    if chosen.output:
        _check_output(chosen.output, list(formats))
    if chosen.cz is not None and not abs(chosen.cz) < SPEED_OF_LIGHT_MS / 1e3:
        raise InputError(f"--cz {chosen.cz:g}: give a speed in km/s below that of light")
    champion = load_champion(load(Promote).model)
    tables = []
    for path in chosen.files:
        galaxy = read_galaxy(path, champion.bands)
        table = predict_galaxy(champion, galaxy, chosen.at, chosen.cz)
        table.add_column([path.name] * len(table), name="file", index=0)
        tables.append(table)
    whole = vstack(tables, metadata_conflicts="silent")
    print(f"champion version {champion.version}, bands {champion.bands}")
    print("\n".join(whole.pformat(max_lines=-1, max_width=-1)))
    if chosen.output:
        whole.write(chosen.output, format=formats[chosen.output.suffix], overwrite=True)


def place(chosen: argparse.Namespace) -> None:
    """Draw one galaxy at several distances."""
    from peculiar.figures import placed_figure
    from peculiar.params import Observe, load
    from peculiar.predict import place_galaxy, read_galaxy

    _check_distances(chosen.at)
    _check_output(chosen.output, [".png", ".pdf"])
    unknown = sorted(set(chosen.bands) - set(BANDS))
    if unknown or not chosen.bands:
        raise InputError(f"--bands {chosen.bands}: take letters of {''.join(BANDS)}")
    params = load(Observe)
    galaxy = read_galaxy(chosen.file, chosen.bands)
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


def standin(chosen: argparse.Namespace) -> None:
    """Write stand-in broadband files, to try `fetch.source: files` with."""
    from peculiar.fetch import standin_knobs
    from peculiar.params import Fetch, load
    from peculiar.standin import make_broadband

    if chosen.galaxies < 1:
        raise InputError(f"--galaxies {chosen.galaxies}: ask for at least one")
    if chosen.seed < 0:
        raise InputError(f"--seed {chosen.seed}: a seed must not be negative")
    knobs = standin_knobs(load(Fetch).standin)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    for number in range(chosen.galaxies):
        path = chosen.folder / f"broadband_{number}.fits"
        make_broadband(path, number, chosen.seed, knobs)
        print(f"wrote {path}")


COMMANDS = {"predict": predict, "place": place, "standin": standin}

if __name__ == "__main__":
    main()
