"""The paper's Table A2: forty networks, ours beside theirs, on data of any size.

    python -m experiments.paper.table WORK results/paper --galaxies 500 --seeds 4 5 6

For each seed, make a clone of this repository in WORK with a `params.yaml` of its own and run
`dvc repro evaluate` there: both distributions of distances, normalised and not, labels D and D_z,
the four CNNs everywhere and the ResNets on normalised targets (paper, sections 3.2, 3.3, Table A2).
All other parameters, the source of the galaxies included, are those of `params.yaml`; the code is
that of the last commit. If interrupted, rerun the same command to resume at the row it was at. An
edited network is trained again alone. Data are made once, since all clones share this repository's
DVC cache. With `--reading paper` images are taken as the paper seems to take them, every frame as
84.4 kpc and dimmed twice (docs/results/which_reading.md). `table.csv`, `report.md` and
`report.html` give the rows beside the published ones, and the paper's claims.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from experiments.paper.report import Key, report
from peculiar.core.errors import InputError, one_sentence
from peculiar.core.params import load
from peculiar.training.params import Train

ROOT = Path(__file__).resolve().parents[2]
DISTANCES = ("normal", "uniform")
READINGS = {"files": "", "paper": "paper-"}  # of the images, and how names of datasets begin
# what the public images are said to be, for stand-ins that are read as the paper reads those
FRAMES_OF_ILLUSTRIS = {"pixels": 256, "field_of_view_radii": 10.0}
CNNS = {f"cnn{layers}": f"{layers}-Layer CNN" for layers in (2, 3, 4, 5)}
RESNETS = {f"resnet{layers}": f"ResNet{layers}" for layers in (18, 50)}


@dataclass(frozen=True)
class Row:
    """A row of Table A2, but for the distribution of distances.

    Attributes
    ----------
    network : str
        Name in `params.yaml`.
    label : {"D", "D_z"}
        Without and with peculiar velocities.
    normalised : bool
        Whether the targets are.
    """

    network: str
    label: str
    normalised: bool

    @property
    def name(self) -> str:
        """Name of the network that is trained for this row."""
        raw = "" if self.normalised else "_raw"
        return f"{self.network}_{self.label.replace('_', '')}{raw}"

    @property
    def published(self) -> str:
        """The paper's name of the network."""
        return (CNNS | RESNETS)[self.network]


def rows() -> Iterator[Row]:
    """The twenty rows of each distribution, in the order of Table A2."""
    for label in ("D", "D_z"):
        for normalised in (False, True):
            for network in (*CNNS, *(RESNETS if normalised else ())):
                yield Row(network, label, normalised)


def keys_of(prefix: str) -> list[Key]:
    """The forty rows of datasets whose names begin so: what names them, and their names here."""
    return [
        (distances, row.normalised, row.label, row.published, f"{prefix}{distances}-{row.name}")
        for distances in DISTANCES
        for row in rows()
    ]


def parameters(
    shipped: dict[str, Any],
    seed: int,
    galaxies: int | None,
    epochs: int | None = None,
    resnet_epochs: int | None = None,
    reading: str = "files",
) -> dict[str, Any]:
    """`params.yaml` with the paper's rows in place of its own networks.

    Images are read as one of `READINGS` says.

    Raises
    ------
    InputError
        For a number of galaxies where they are not simulated, or a network that is not there.
    """
    params = {name: dict(section) for name, section in shipped.items()}
    train = params["train"]
    params["fetch"] = galaxies_of(params["fetch"], galaxies)
    datasets = [READINGS[reading] + distances for distances in DISTANCES]
    if reading == "paper" and params["fetch"]["source"] == "standin":
        params["fetch"]["standin"] |= FRAMES_OF_ILLUSTRIS
    # the paper's resampling, which ours is not (docs/decisions/0040)
    params["observe"] |= {"datasets": datasets, "psf_fwhm_arcsec": None}
    # a row of the table it is not, but a part of the pipeline
    params["search"] |= {"dataset": datasets[-1], "trials": 1, "epochs": 1}
    train["best"] = train["best"] | {"epochs": 1}
    specs = {}
    for row in rows():
        if row.network not in train["specs"]:
            raise InputError(f"params.yaml: train.specs lacks {row.network}, a row of Table A2")
        spec = train["specs"][row.network] | {"label": row.label, "normalise": row.normalised}
        special = row.network in RESNETS and resnet_epochs is not None
        chosen = resnet_epochs if special else epochs
        specs[row.name] = spec | ({} if chosen is None else {"epochs": chosen})
    train |= {"datasets": datasets, "networks": list(specs), "specs": specs, "seed": seed}
    return params


def galaxies_of(fetch: dict[str, Any], galaxies: int | None) -> dict[str, Any]:
    """Section `fetch` for a clone, with this number of stand-ins.

    Raises
    ------
    InputError
        For a number of galaxies where they are not simulated.
    """
    source = fetch["source"]
    if source == "standin":
        own: dict[str, Any] = {} if galaxies is None else {"galaxies": galaxies}
    elif galaxies is not None:
        raise InputError(f"--galaxies is for stand-ins, fetch.source is {source}: leave it out")
    else:  # the clone is in another folder
        paths = {key: fetch[source].get(key) for key in ("folder", "catalogue")}
        own = {key: str((ROOT / path).resolve()) for key, path in paths.items() if path}
    return fetch | {source: fetch[source] | own}


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder, whatever the environment says of another repository."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise InputError(f"{folder}: git {arguments[0]} failed: {' '.join(done.stderr.split())}")
    return done.stdout.strip()


def clone(folder: Path) -> None:
    """A clone of the present commit, with this repository's DVC cache.

    Raises
    ------
    InputError
        When the folder is something else, or code is not committed.
    """
    if git(ROOT, "status", "--porcelain", "--", "src", "dvc.yaml"):
        raise InputError(
            f"{ROOT}: src or dvc.yaml has changes that no clone would have: commit them"
        )
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        git(ROOT, "clone", "--quiet", "--no-checkout", str(ROOT), str(folder))
    if not (folder / ".git").is_dir():  # or git would take the repository above it
        raise InputError(f"{folder} is no clone of this repository: take another folder")
    git(folder, "fetch", "--quiet", "origin", "HEAD")
    kept = folder / "dvc.lock"
    lock = kept.read_bytes() if kept.exists() else None  # what has been done there
    git(folder, "checkout", "--quiet", "--force", "--detach", "FETCH_HEAD")
    if lock is not None:
        kept.write_bytes(lock)
    cache = f"[cache]\n    dir = {ROOT / '.dvc/cache'}\n"
    (folder / ".dvc/config.local").write_text(cache)


def run(folder: Path, params: dict[str, Any], stage: str = "evaluate") -> None:
    """Run a stage, and what it needs, as far as that is not there yet."""
    clone(folder)
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PYTHONPATH": "src", "PATH": path}
    command = [sys.executable, "-m", "dvc", "repro", stage]
    done = subprocess.run(command, cwd=folder, env=environment, check=False)
    if done.returncode:
        raise InputError(f"{folder}: `dvc repro` failed: fix the error above and rerun this")


def check_folders(work: Path, output: Path) -> None:
    """Refuse a report among the clones, or clones in the report."""
    if work == output or work in output.parents or output in work.parents:
        raise InputError(f"{work} and {output} must not hold each other: take another folder")


def command_line(description: str | None) -> argparse.ArgumentParser:
    """A parser of what every script takes that works in clones."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path, help="folder for clones of this repository")
    parser.add_argument("output", type=Path, help="folder for what is found")
    parser.add_argument("--galaxies", type=int, help="stand-in galaxies (params.yaml's number)")
    return parser


def given(chosen: argparse.Namespace) -> tuple[Path, Path, dict[str, Any]]:
    """The two folders of `command_line`, and `params.yaml` as it is shipped."""
    work, output = chosen.work.resolve(), chosen.output.resolve()
    check_folders(work, output)
    return work, output, yaml.safe_load((ROOT / "params.yaml").read_text())


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, evaluate and report."""
    parser = command_line(__doc__)
    parser.add_argument("--epochs", type=int, help="of every network, for a trial (the paper's)")
    parser.add_argument("--resnet-epochs", type=int, help="of the ResNets, where they take days")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[4], help="of training; data are the same"
    )
    parser.add_argument(
        "--reading", choices=READINGS, default="files", help="frames as files say, or the paper"
    )
    chosen = parser.parse_args(arguments)
    with one_sentence():
        work, output, shipped = given(chosen)
        load(Train, ROOT / "params.yaml")
        prefix = READINGS[chosen.reading]
        folders = [work / f"{prefix}seed-{seed}" for seed in dict.fromkeys(chosen.seeds)]
        for seed, folder in zip(dict.fromkeys(chosen.seeds), folders, strict=True):
            epochs = chosen.epochs, chosen.resnet_epochs
            run(folder, parameters(shipped, seed, chosen.galaxies, *epochs, chosen.reading))
        report(folders, keys_of(prefix), output)


if __name__ == "__main__":
    main()
