"""Galaxies of one structure: one distance and like looks (paper, section 5.2).

    python -m experiments.paper.structures WORK results/structures

The paper places each galaxy by itself. In a survey galaxies are clustered, and neighbours may look
alike: a network that has seen the others of a structure may know its distance by their looks. Here
stand-in galaxies are put into structures, of like colour or at random; all galaxies of a structure
have the same distance in each of their four views, and velocities of their own. cnn3 learns by the
paper's recipe, from images as the files say. With a split by galaxy, the galaxies of a structure
are in all splits; with a split by structure they are in one.

WORK is the folder of `experiments.paper.paper_size`, whose raw images are taken or made. If
interrupted, rerun the same command to resume.
"""

import argparse
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import astropy.units as u
import numpy as np
import yaml
from astropy.table import QTable
from numpy.typing import NDArray

from experiments.datasets import make_raw
from experiments.kept import identity_of, read_kept
from experiments.paper.judged import train_and_judge
from experiments.paper.paper_size import GALAXIES, parameters
from experiments.paper.which_reading import CODE, Reading, raw_folder
from experiments.spread import spread
from peculiar.core.dataset import (
    OBSERVED_COLUMNS,
    RAW_COLUMNS,
    Observed,
    open_set,
    write_table,
)
from peculiar.core.errors import InputError, one_sentence
from peculiar.core.files import replace_folder
from peculiar.core.params import PARAMS, load, validate
from peculiar.core.provenance import imported_code_digest
from peculiar.core.shard import ShardWriter
from peculiar.core.survey import Simulated
from peculiar.mock.distances import draw_distances_mpc
from peculiar.mock.params import Observe
from peculiar.networks.params import NetworkSection
from peculiar.pipeline.observe import observe_pieces, pieces, survey_of
from peculiar.pipeline.tables import draw_splits, draw_table
from peculiar.training.params import Train
from peculiar.training.train import share_images

NETWORK, DATASET = "cnn3", "uniform"
BANDS = ("g", "i")  # of the colour by which galaxies are alike
SHOWN = {
    "l1_d_mpc": "L1(D) [Mpc]",
    "l2_d_mpc": "L2(D) [Mpc]",
    "shift_d_mpc": "mean D - D_p [Mpc]",
}


@dataclass(frozen=True)
class Setting:
    """How galaxies are put into structures.

    Attributes
    ----------
    members : int
        Galaxies of a structure; 1 for none.
    likeness : float
        Correlation of a galaxy's rank in colour with its place among the structures: 1 for
        structures of neighbours in colour, 0 for structures at random.
    split_by : {"galaxy", "structure"}
        What is assigned to splits.
    """

    members: int = 1
    likeness: float = 0.0
    split_by: Literal["galaxy", "structure"] = "galaxy"


SETTINGS = {
    "no structures": Setting(),
    "structures of 10 at random, split by galaxy": Setting(10),
    "structures of 10 alike, split by galaxy": Setting(10, 0.9),
    "structures of 10 alike, split by structure": Setting(10, 0.9, "structure"),
}


def structures(
    colour_mag: NDArray[np.float64], setting: Setting, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Structure of each galaxy.

    Parameters
    ----------
    colour_mag : ndarray, (galaxy,)
        Colours, mag.
    setting : Setting
        Members and likeness.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray of int, (galaxy,)
        Number of its structure, from 0; the last may have fewer members.
    """
    look = (colour_mag - colour_mag.mean()) / colour_mag.std()
    noise = rng.normal(size=len(look))
    place = setting.likeness * look + np.sqrt(1 - setting.likeness**2) * noise
    structure = np.empty(len(look), dtype=np.int64)
    structure[np.argsort(place)] = np.arange(len(look)) // setting.members
    return structure


def clustered_table(
    params: Observe, law: Simulated, galaxies: QTable, cameras: int, setting: Setting
) -> QTable:
    """The image table, with one distance for all galaxies of a structure in each of the views."""
    table = draw_table(params, law, np.asarray(galaxies["id"]), cameras)
    if setting.members == 1:
        return table
    bands = list(galaxies.meta["bands"])
    blue, red = (galaxies["absolute_mag"].to_value(u.mag)[:, bands.index(b)] for b in BANDS)
    rng, distance_rng, split_rng = np.random.default_rng(params.seed).spawn(6)[3:]
    structure = structures(blue - red, setting, rng)
    drawn = draw_distances_mpc(law, (structure.max() + 1) * cameras, distance_rng)
    distance_mpc = drawn.reshape(-1, cameras)[structure].ravel()
    table["distance_mpc"] = distance_mpc * u.Mpc
    velocity_mpc = table["velocity_kms"].to_value(u.km / u.s) / params.H0_kms_mpc
    table["distance_z_mpc"] = (distance_mpc + velocity_mpc) * u.Mpc
    if setting.split_by == "structure":
        by_galaxy = params.split.model_copy(update={"by": "galaxy"})
        table["split"] = draw_splits(np.repeat(structure, cameras), by_galaxy, split_rng)
    return table


@contextmanager
def observed_in(
    raw: Path, params: Mapping[str, Any], number: int, setting: Setting, folder: Path
) -> Iterator[Observed]:
    """The first galaxies of the raw images, put into structures; removed from `folder` after use.

    Raises
    ------
    InputError
        When there are fewer galaxies.
    """
    images, galaxies = open_set(raw, RAW_COLUMNS)
    if number > len(galaxies):
        raise InputError(f"--use: {raw} has {len(galaxies)} galaxies, not {number}: take fewer")
    galaxies, observe = galaxies[:number], validate(Observe, params["observe"], "observe")
    law = observe.distances[DATASET]
    assert isinstance(law, Simulated)
    table = clustered_table(observe, law, galaxies, images.shape[1], setting)
    survey = survey_of(observe, DATASET, galaxies)
    table.meta = survey.model_dump(mode="json")
    with replace_folder(folder) as made:
        with ShardWriter(made, len(table), observe.shard_images) as shards:
            for seen in observe_pieces(pieces(observe, survey, raw, galaxies, table)):
                for image in seen:
                    shards.append(image)
        write_table(table, made, OBSERVED_COLUMNS)
    yield Observed.read(folder)
    shutil.rmtree(folder)


def found_in(
    folder: Path,
    observed_as: Callable[[Path], AbstractContextManager[Observed]],
    spec: NetworkSection,
    identities: Mapping[int, str],
) -> list[Mapping[str, float]]:
    """Measures of one setting, a seed each; its images are made if a training is not kept."""
    paths = {seed: folder / f"seed {seed}.json" for seed in identities}
    kept = {seed: read_kept(paths[seed], own) for seed, own in identities.items()}
    if None in kept.values():
        folder.mkdir(parents=True, exist_ok=True)
        with observed_as(folder / "observed") as observed:
            scaled = share_images(observed, spec.softening_mag_arcsec2, spec.crop)
            for seed, own in identities.items():
                if kept[seed] is None:
                    kept[seed] = train_and_judge(observed, spec, seed, scaled, paths[seed], own)
    return [one["measures"] for one in kept.values() if one is not None]


def lines(results: Mapping[str, Sequence[Mapping[str, float]]], number: int) -> Iterator[str]:
    """Means and deviations over seeds, in Markdown."""
    yield f"| setting | seeds | {' | '.join(SHOWN.values())} |"
    yield "|---" * (2 + len(SHOWN)) + "|"
    for name, found in results.items():
        cells = [spread([measured[key] for measured in found]) for key in SHOWN]
        yield f"| {name} | {len(found)} | {' | '.join(cells)} |"
    yield ""
    yield f"{NETWORK}, {number} stand-in galaxies, judged on the test split. ± over seeds."
    yield ""


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, judge and tabulate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path, help="folder of experiments/paper/paper_size.py")
    parser.add_argument("output", type=Path, help="folder for structures.md")
    parser.add_argument("--galaxies", type=int, default=GALAXIES, help="stand-ins in WORK")
    parser.add_argument("--use", type=int, default=1400, help="how many of them")
    parser.add_argument("--seeds", type=int, nargs="+", default=[4, 5], help="of training")
    parser.add_argument("--epochs", type=int, help="for a trial (the paper's 20)")
    chosen = parser.parse_args(arguments)
    with one_sentence():
        params = parameters(yaml.safe_load(PARAMS.read_text()), DATASET, chosen.galaxies)
        spec = load(Train).specs[NETWORK]
        if chosen.epochs is not None:
            spec = spec.model_copy(update={"epochs": chosen.epochs})
        raw = make_raw(raw_folder(chosen.work, Reading(), chosen.galaxies), params)
        code = [imported_code_digest(module) for module in CODE]
        results: dict[str, list[Mapping[str, float]]] = {}
        for name, setting in SETTINGS.items():
            decided_by = [params, asdict(setting), chosen.use, spec.model_dump()]
            identities = {seed: identity_of(*decided_by, seed, *code) for seed in chosen.seeds}
            results[name] = found_in(
                chosen.work / "structures" / f"{name}, {chosen.use} galaxies",
                partial(observed_in, raw, params, chosen.use, setting),
                spec,
                identities,
            )
            chosen.output.mkdir(parents=True, exist_ok=True)
            text = "\n".join(lines(results, chosen.use))
            (chosen.output / "structures.md").write_text(text)
            print(text.splitlines()[1 + len(results)], flush=True)


if __name__ == "__main__":
    main()
