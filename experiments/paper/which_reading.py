"""Which reading of the paper gives its numbers: cnn2 and cnn3 by its recipe, for each reading.

    python -m experiments.paper.which_reading WORK results/which_reading

The paper does not say all that decides its numbers. Stand-in galaxies are photographed in frames of
ten stellar half-mass radii, as the public Illustris images are said to be, and in frames of 84.4
kpc, as the paper says. They are placed with the scale of the file or with 84.4 kpc for all, with
physical or literal dimming, by the paper's cubic or with our PSF. The paper's reading and ours are
also split by image, with other scatters of sizes, and with larger batches.

Networks learn from D_z, normalised, uniform distances, for 20 epochs. They are judged by the test
split, as in the paper; it chooses nothing here. All other parameters are those of `params.yaml`.
Raw images stay in WORK (7.3 GB for each kind of frame and scatter of 1,400 galaxies); observed ones
(1.8 GB) are removed when their networks are trained. If interrupted, rerun the same command to
resume. Several processes may share WORK, each with readings or seeds of its own and an OUT of its
own; the same command for all readings and seeds then makes the table of all.
"""

import argparse
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

import yaml
from filelock import FileLock

from experiments.datasets import make_dataset, make_raw
from experiments.kept import identity_of, read_kept
from experiments.paper.judged import train_and_judge
from experiments.paper.reading_shown import draw_frames, write_tables
from peculiar.core.dataset import Observed
from peculiar.core.errors import InputError, one_sentence
from peculiar.core.params import PARAMS, load
from peculiar.core.provenance import imported_code_digest
from peculiar.core.survey import Dimming, Scale, SplitBy
from peculiar.networks.params import NetworkSection
from peculiar.training.params import Train
from peculiar.training.train import share_images

NETWORKS = ("cnn2", "cnn3")
GALAXIES, PIXELS = 1400, 256  # side of the paper's images, pixels
CODE = ("peculiar.pipeline.observe", "peculiar.training.train")
# what the stand-in photographs, and the scale with which it is placed
Frame = Literal["own frame", "taken as 84.4 kpc", "84.4 kpc in truth"]
FRAMES: Mapping[Frame, tuple[dict[str, float], Scale]] = {
    "taken as 84.4 kpc": ({"field_of_view_radii": 10.0}, "paper"),
    "own frame": ({"field_of_view_radii": 10.0}, "header"),
    "84.4 kpc in truth": ({"field_of_view_kpc": 84.4}, "header"),
}


@dataclass(frozen=True)
class Reading:
    """What the paper leaves open; by default as its numbers suggest.

    Attributes
    ----------
    frame : str
        One of `FRAMES`.
    dimming : {"physical", "literal"}
        See `Survey`.
    resampling : {"cubic", "PSF"}
        The paper's cubic kernel, or our PSF.
    split_by : {"galaxy", "image"}
        What is assigned to splits; the paper's words allow both.
    size_scatter : float
        Scatter of the stand-ins' sizes over the observed one.
    batch_size : int
        Images per step.
    """

    frame: Frame = "taken as 84.4 kpc"
    dimming: Dimming = "literal"
    resampling: Literal["cubic", "PSF"] = "cubic"
    split_by: SplitBy = "galaxy"
    size_scatter: float = 1.0
    batch_size: int = 16

    @property
    def name(self) -> str:
        """In words, for example "own frame, physical, PSF, split by image"."""
        extras = {
            "split by image": self.split_by == "image",
            f"sizes scatter x {self.size_scatter:g}": self.size_scatter != 1,
            f"batches of {self.batch_size}": self.batch_size != 16,
        }
        words = [self.frame, self.dimming, self.resampling]
        return ", ".join([*words, *(extra for extra, said in extras.items() if said)])

    @property
    def images(self) -> "Reading":
        """The reading that has the same images."""
        return replace(self, batch_size=16)


def readings() -> list[Reading]:
    """All readings, the paper's and ours first."""
    paper, ours = Reading(), Reading("own frame", "physical", "PSF")
    crossed = [
        Reading(frame, dimming, resampling)
        for frame in FRAMES
        for dimming in ("literal", "physical")
        for resampling in ("cubic", "PSF")
    ]
    varied = [
        replace(one, **change)
        for one in (paper, ours)
        for change in (
            {"split_by": "image"},
            {"batch_size": 64},
            {"size_scatter": 0.5},
            {"size_scatter": 2.0},
        )
    ]
    return list(dict.fromkeys([paper, ours, *crossed, *varied]))


def parameters(shipped: Mapping[str, Any], reading: Reading, galaxies: int) -> dict[str, Any]:
    """`params.yaml` for the images of a reading."""
    params: dict[str, Any] = deepcopy(dict(shipped))
    field, scale = FRAMES[reading.frame]
    params["fetch"]["source"] = "standin"
    own = {"galaxies": galaxies, "pixels": PIXELS, "size_scatter": reading.size_scatter}
    params["fetch"]["standin"] |= own | {"field_of_view_radii": None} | field
    observe = params["observe"]
    observe |= {"datasets": ["uniform"], "scale": scale, "dimming": reading.dimming}
    observe["split"] |= {"by": reading.split_by}
    if reading.resampling == "cubic":
        observe["psf_fwhm_arcsec"] = None
    return {"fetch": params["fetch"], "observe": observe}


def raw_folder(work: Path, reading: Reading, galaxies: int) -> Path:
    """Folder of the stand-ins, which readings of the same stars and frames share."""
    (key,) = FRAMES[reading.frame][0]
    return work / "raw" / f"{key}-scatter-{reading.size_scatter:g}-{galaxies}-galaxies"


@contextmanager
def observed_as(
    work: Path, reading: Reading, galaxies: int, params: Mapping[str, Any]
) -> Iterator[Observed]:
    """Observe the galaxies; the images are removed when all has gone well."""
    raw = make_raw(raw_folder(work, reading, galaxies), params)
    name = reading.name.replace(",", "").replace(" ", "-")
    folder = work / "observed" / f"{name}-{galaxies}-galaxies"
    with FileLock(work / f".{folder.name}.lock"):  # or another process would remove them too
        yield make_dataset(folder, params, raw=raw)
        shutil.rmtree(folder)


@dataclass(frozen=True)
class Training:
    """One network of one reading and seed.

    Attributes
    ----------
    reading : Reading
        What it reads.
    network : str
        One of `NETWORKS`.
    spec : NetworkSection
        Its recipe.
    seed : int
        Seed of its training.
    """

    reading: Reading
    network: str
    spec: NetworkSection
    seed: int

    def path(self, work: Path, galaxies: int) -> Path:
        """File in which its result is kept."""
        name = f"{self.reading.name}, {self.network}, {galaxies} galaxies, seed {self.seed}.json"
        return work / "runs" / name

    def identity(self, params: Mapping[str, Any]) -> str:
        """What decides its result: data, network and code."""
        code = map(imported_code_digest, CODE)
        return identity_of(params, self.spec.model_dump(), self.seed, *code)


def trainings(
    train: Train, reading: Reading, seeds: Sequence[int], epochs: int | None
) -> Iterator[Training]:
    """The networks of a reading."""
    for seed in seeds:
        for network in NETWORKS:
            changes = {"batch_size": reading.batch_size}
            changes |= {} if epochs is None else {"epochs": epochs}
            spec = train.specs[network].model_copy(update=changes)
            yield Training(reading, network, spec, seed)


def found_in(
    work: Path, planned: Sequence[Training], params: Mapping[str, Any], galaxies: int
) -> Iterator[tuple[Training, dict[str, float]]]:
    """Results of the networks that learn from the same images: kept ones, then new ones."""
    left = []
    for one in planned:
        kept = read_kept(one.path(work, galaxies), one.identity(params))
        if kept is None:
            left.append(one)
        else:
            yield one, kept["measures"]
    if not left:
        return
    with observed_as(work, left[0].reading.images, galaxies, params) as observed:
        scaled = share_images(observed, left[0].spec.softening_mag_arcsec2, left[0].spec.crop)
        for one in left:
            path = one.path(work, galaxies)
            kept = train_and_judge(observed, one.spec, one.seed, scaled, path, one.identity(params))
            yield one, kept["measures"]


def command_line() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path, help="folder for data and results of trainings")
    parser.add_argument("output", type=Path, help="folder for table and picture")
    parser.add_argument("--galaxies", type=int, default=GALAXIES, help="stand-in galaxies")
    parser.add_argument("--seeds", type=int, nargs="+", default=[4, 5], help="of training")
    parser.add_argument("--only", nargs="+", default=["*"], help="names of readings, * for any end")
    parser.add_argument("--epochs", type=int, help="for a trial (the paper's 20)")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, judge, tabulate and draw."""
    chosen = command_line().parse_args(arguments)
    work, output, galaxies = chosen.work, chosen.output, chosen.galaxies
    with one_sentence():
        train, shipped = load(Train), yaml.safe_load(PARAMS.read_text())
        wanted = [one for one in readings() if any(fnmatch(one.name, p) for p in chosen.only)]
        if not wanted:
            names = "; ".join(one.name for one in readings())
            raise InputError(f"--only: no reading has that name, take some of: {names}")
        by_images: dict[Reading, list[Training]] = {}
        for one in wanted:
            planned = trainings(train, one, chosen.seeds, chosen.epochs)
            by_images.setdefault(one.images, []).extend(planned)
        results: dict[tuple[str, str], dict[int, dict[str, float]]] = {}
        for images, of_images in by_images.items():
            params = parameters(shipped, images, galaxies)
            for done, found in found_in(work, of_images, params, galaxies):
                results.setdefault((done.reading.name, done.network), {})[done.seed] = found
                write_tables(results, galaxies, output)
                print(
                    f"seed {done.seed}, {done.network}, {done.reading.name}: "
                    f"L2(D) {found['l2_d_mpc']:.2f} Mpc, {found['seconds']:.0f} s",
                    flush=True,
                )
        raw = raw_folder(work, Reading(), galaxies) / "data/fetch"
        if raw.exists():
            draw_frames(raw, shipped["observe"], output / "frames.png")


if __name__ == "__main__":
    main()
