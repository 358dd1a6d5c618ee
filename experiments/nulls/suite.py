"""The null tests at full size, and those that the stage `nulls` leaves out.

    python -m experiments.nulls.suite WORK OUT --unseen 2000 --galaxies 100

Reads a finished pipeline (`--root`, by default this folder). WORK keeps scenes, renderings and
results: rerun the same command to resume. OUT receives `table.md` (tests a and b) and `parts.md`:
networks trained on the rim, the background or the total flux alone (c); on redshifts shuffled
within bins of magnitude (d); trees on order, zeros, bits and compression (e).
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.kept import identity_of, read_kept
from experiments.nulls.metadata import places, readable, traces
from experiments.nulls.shown import (
    PARTS,
    bins_of,
    distances_mpc,
    part_of,
    r_magnitude,
    shuffled,
    within_bins,
)
from peculiar.core.dataset import Observed
from peculiar.core.errors import one_sentence
from peculiar.core.files import write_atomically
from peculiar.core.params import load
from peculiar.core.provenance import code_digest
from peculiar.galaxies.params import Fetch
from peculiar.mock.params import Observe
from peculiar.networks.params import NetworkSection
from peculiar.nulls.measure import pearson, spec_for_scenes
from peculiar.nulls.params import Nulls
from peculiar.nulls.scenes import RawGrid
from peculiar.nulls.table import null_table
from peculiar.parallel import pool, scheduler
from peculiar.pipeline.nulls import (
    not_applicable,
    read_by_reader,
    test_network,
    write_renderings,
    write_scenes,
)
from peculiar.pipeline.paths import Paths
from peculiar.runs import record
from peculiar.runs.nulls import NullTests, read_null_tests, write_null_tests
from peculiar.training.params import Train
from peculiar.training.predictions import expected_mpc, grid_of, predict_split
from peculiar.training.train import train_network
from peculiar.velocity.metrics import l2

Numbers = dict[str, float]
JUDGED = "validation"  # only `evaluate` reads the test split


def prepare(work: Path, paths: Paths, params: Nulls, train: Train, fetch: Fetch) -> None:
    """Make scenes and renderings of every dataset, unless they are there.

    Raises
    ------
    InputError
        When WORK holds those of other parameters, data or code.
    """
    grid = RawGrid.read(paths.fetched)
    datasets = [Observed.read(paths.observed(name)) for name in train.datasets]
    described = [one.survey.model_dump(mode="json") for one in datasets]
    kept(
        work / "made.json",
        identity(params.model_dump(), fetch.model_dump(mode="json"), described),
        dict,
    )
    with pool(scheduler()) as workers:
        for observed in datasets:
            folder = work / "scenes" / observed.survey.dataset
            if not folder.exists():
                write_scenes(folder, observed, grid, params, workers)
        surveys = [one.survey for one in datasets if not not_applicable(one.survey, fetch)]
        if surveys:
            write_renderings(work / "renderings", surveys, fetch.standin, params, workers)


def tested(
    work: Path, paths: Paths, params: Nulls, train: Train, fetch: Fetch
) -> dict[str, NullTests]:
    """Tests (a) and (b) of every network; those in WORK of the same run are kept."""
    found = {}
    for dataset, network in train.items():
        name = f"{dataset}-{network}"
        trained, path = paths.trained(name), work / f"{name}.json"
        tests = read_null_tests(path)
        if tests is None or tests.run_id != record.read_run(trained).run_id:
            reason = not_applicable(Observed.read(paths.observed(dataset)).survey, fetch)
            renderings = None if reason else work / "renderings" / dataset
            tests = test_network(trained, work / "scenes" / dataset, renderings, params, reason)
            write_null_tests(path, tests)
        found[name] = tests
        print(name, *(tests.failures or ["passes"]), sep="; ", flush=True)
    return found


def learnt(observed: Observed, spec: NetworkSection, epochs: int, seed: int) -> NDArray[np.float64]:
    """D_p (n,), Mpc, of validation by a network trained on a dataset without fresh views."""
    own = spec_for_scenes(spec, epochs)
    network = train_network(observed, own, seed, lambda *_: None)
    return expected_mpc(predict_split(network, observed, JUDGED), grid_of(network))


def parts(observed: Observed, spec: NetworkSection, epochs: int, seed: int) -> dict[str, Numbers]:
    """Skill of a network trained on each part of the images, and on shuffled redshifts."""
    D_mpc = distances_mpc(observed, JUDGED)

    def numbers(D_p: NDArray[np.float64]) -> Numbers:
        r, error = pearson(D_mpc, D_p)
        return {"r": r, "error": error, "l2_mpc": l2(D_mpc, D_p)}

    found = {
        name: numbers(learnt(part_of(observed, change), spec, epochs, seed))
        for name, change in PARTS.items()
    }
    bins = bins_of(r_magnitude(observed))
    unlearnt = shuffled(observed, bins, np.random.default_rng(seed))
    D_p = learnt(unlearnt, spec, epochs, seed)
    found["redshifts shuffled within magnitude"] = numbers(D_p)
    judged = bins[observed.rows(JUDGED)]
    r, error = pearson(within_bins(D_mpc, judged), within_bins(D_p, judged))
    found["the same, beyond magnitude"] = {"r": r, "error": error, "l2_mpc": float("nan")}
    return found


def kept(path: Path, identity: str, make: Callable[[], dict[str, Numbers]]) -> dict[str, Numbers]:
    """Numbers in a file, made and written if it is not there; those of another identity refused."""
    before = read_kept(path, identity)
    if before is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        before = {"identity": identity, "found": make()}
        write_atomically(path, json.dumps(before).encode())
    found: dict[str, Numbers] = before["found"]
    return found


def identity(*parts: object) -> str:
    """Digest of what decides numbers: parameters, run or dataset, and code."""
    return identity_of(*parts, code_digest())


def parts_lines(found: dict[str, dict[str, Numbers]]) -> Iterator[str]:
    """Table of (c) and (d): r and L2(D) by network."""
    yield "| what is shown | " + " | ".join(found) + " |"
    yield "|---" * (1 + len(found)) + "|"
    for name in next(iter(found.values())):
        cells = []
        for numbers in (one[name] for one in found.values()):
            text = f"r {numbers['r']:+.2f} ± {numbers['error']:.2f}"
            beyond = np.isfinite(numbers["l2_mpc"])
            cells.append(f"{text}, L2 {numbers['l2_mpc']:.2f} Mpc" if beyond else text)
        yield f"| {name} | {' | '.join(cells)} |"


def metadata(observed: Observed, scenes: Observed, per_shard: int) -> dict[str, Numbers]:
    """Test (e): r of trees on places of images, and on traces in the files of scenes."""
    found = {
        f"images: {name}": pair
        for name, pair in readable(observed, places(observed, per_shard)).items()
    }
    found |= {f"scenes: {name}": pair for name, pair in readable(scenes, traces(scenes)).items()}
    return {name: {"r": r, "error": error} for name, (r, error) in found.items()}


def metadata_lines(found: dict[str, dict[str, Numbers]]) -> Iterator[str]:
    """Table of (e): r by dataset."""
    yield "| trees read | " + " | ".join(found) + " |"
    yield "|---" * (1 + len(found)) + "|"
    for name in next(iter(found.values())):
        cells = [f"r {one[name]['r']:+.2f} ± {one[name]['error']:.2f}" for one in found.values()]
        yield f"| {name} | {' | '.join(cells)} |"


def options() -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path, help="folder for scenes, renderings and results")
    parser.add_argument("output", type=Path, help="folder for the tables")
    parser.add_argument("--root", type=Path, default=Path(), help="folder of a finished pipeline")
    for name, number in (("scenes", 1000), ("unseen", 2000), ("epochs", 100), ("galaxies", 100)):
        parser.add_argument(f"--{name}", type=int, default=number, help=f"see nulls.{name}")
    return parser.parse_args()


def main() -> None:
    """Make both tables."""
    chosen = options()
    paths = Paths(chosen.root)
    with one_sentence():
        train, fetch = load(Train, paths.params), load(Fetch, paths.params)
        per_shard = load(Observe, paths.params).shard_images
        sizes = {name: getattr(chosen, name) for name in ("scenes", "unseen", "epochs", "galaxies")}
        params = load(Nulls, paths.params).model_copy(update=sizes)
        prepare(chosen.work, paths, params, train, fetch)
        tests = tested(chosen.work, paths, params, train, fetch)
        readers = {name: read_by_reader(chosen.work / "scenes" / name) for name in train.datasets}
        chosen.output.mkdir(parents=True, exist_ok=True)
        table = null_table(tests, readers, params)
        (chosen.output / "table.md").write_text(table)
        shown, traced = {}, {}
        decides = params.model_dump()
        for dataset, network in train.items():
            observed = Observed.read(paths.observed(dataset))
            name = f"{dataset}-{network}"
            run = record.read_run(paths.trained(name))
            shown[name] = kept(
                chosen.work / "parts" / f"{name}.json",
                identity(decides, run.run_id),
                lambda o=observed, s=run.spec: parts(o, s, params.epochs, params.seed),  # type: ignore[misc]
            )
            scenes = Observed.read(chosen.work / "scenes" / dataset)
            traced[dataset] = kept(
                chosen.work / "metadata" / f"{dataset}.json",
                identity(decides, observed.survey.model_dump(mode="json")),
                lambda o=observed, s=scenes: metadata(o, s, per_shard),  # type: ignore[misc]
            )
        text = "\n".join([*parts_lines(shown), "", *metadata_lines(traced)]) + "\n"
        (chosen.output / "parts.md").write_text(text)
        print(table, text, sep="\n")


if __name__ == "__main__":
    main()
