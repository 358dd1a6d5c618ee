"""Stage `nulls`: null tests of every trained network, which `promote` reads.

Scenes and renderings are made once for all networks, on all cores, in a folder that is removed in
the end. What the tests are: `peculiar.nulls`; what a network fails by: `peculiar.runs.nulls`.
"""

import argparse
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import astropy.units as u
import numpy as np
from tqdm import tqdm

from peculiar.core.dataset import OBSERVED_COLUMNS, Observed, write_table
from peculiar.core.errors import one_sentence
from peculiar.core.files import replace_folder
from peculiar.core.params import load
from peculiar.core.shard import ShardWriter
from peculiar.core.survey import Survey
from peculiar.galaxies.params import Fetch, StandIn
from peculiar.nulls.measure import changes, correlations, learnt_from_scenes, predicted_mpc
from peculiar.nulls.params import Nulls
from peculiar.nulls.reader import read_scenes
from peculiar.nulls.renderings import galaxy_renderings
from peculiar.nulls.scenes import RawGrid, scene_table, scene_views
from peculiar.nulls.table import null_table
from peculiar.parallel import Pool, in_order, pool, scheduler
from peculiar.pipeline.paths import Paths
from peculiar.runs import record
from peculiar.runs.nulls import NullTests, Rendering, Scenes, write_null_tests
from peculiar.training.params import Train

AT_ONCE = 32  # scenes per task
DISTANCE = "distance_mpc"  # key of the distances among the renderings


def main(arguments: Sequence[str] | None = None, root: Path = Path()) -> None:
    """Test every network of `train`."""
    argparse.ArgumentParser(prog="peculiar nulls", description=__doc__).parse_args(arguments)
    paths = Paths(root)
    with one_sentence():
        train, fetch = load(Train, paths.params), load(Fetch, paths.params)
        test_networks(load(Nulls, paths.params), train, fetch, paths)


def not_applicable(survey: Survey, fetch: Fetch) -> str:
    """Why the galaxies of a dataset cannot be rendered in another way; empty if they can."""
    if survey.measured:
        return "the galaxies are real: nobody can render them in another way"
    if fetch.source != "standin":
        return f"the images are from {fetch.source}: their stars are not here to be rendered again"
    return ""


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """Make an empty folder, removed when the block ends."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_scenes(
    folder: Path, observed: Observed, grid: RawGrid, params: Nulls, workers: Pool
) -> None:
    """Write scenes for a dataset into `folder`, as an observed dataset, completely or not at all.

    Parameters
    ----------
    folder : Path
        Folder to make.
    observed : Observed
        The dataset.
    grid : RawGrid
        Its raw pixels.
    params : Nulls
        Section `nulls`.
    workers : Pool
        Draws them.
    """
    table = scene_table(observed, grid, params.scenes, params.unseen, params.seed)
    kinds, survey = table["kind"].tolist(), observed.survey
    distance = table[DISTANCE].to_value(u.Mpc)
    kpc = table["kpc_per_pixel"].to_value(u.kpc)
    pieces = [slice(first, first + AT_ONCE) for first in range(0, len(table), AT_ONCE)]
    tasks = (
        (survey, grid.pixels, kinds[at], distance[at], kpc[at], params.seed, at.start)
        for at in pieces
    )
    with (
        replace_folder(folder) as partial,
        ShardWriter(partial, len(table), AT_ONCE * 32) as shards,
        tqdm(total=len(table), desc=f"nulls ({survey.dataset}, scenes)", unit="scene") as bar,
    ):
        for images in in_order(workers, scene_views, tasks):
            for image in images:
                shards.append(image)
            bar.update(len(images))
        write_table(table, partial, OBSERVED_COLUMNS)


def write_renderings(
    folder: Path, surveys: Sequence[Survey], standin: StandIn, params: Nulls, workers: Pool
) -> None:
    """Write one file a galaxy and dataset, DATASET/NUMBER.npz, with its images by rendering.

    Files that are there already stay.

    Parameters
    ----------
    folder : Path
        Folder to write into.
    surveys : sequence of Survey
        One per dataset.
    standin : StandIn
        Parameters of the training images.
    params : Nulls
        Section `nulls`.
    workers : Pool
        Renders the galaxies.
    """
    for survey in surveys:
        (folder / survey.dataset).mkdir(parents=True, exist_ok=True)
    last = folder / surveys[-1].dataset
    left = [n for n in range(params.galaxies) if not (last / f"{n:04d}.npz").exists()]
    tasks = ((number, standin, params, list(surveys)) for number in left)
    bar = tqdm(left, desc="nulls (renderings)", unit="galaxy")
    for number, of_datasets in zip(bar, in_order(workers, galaxy_renderings, tasks), strict=True):
        for survey, (distance_mpc, images) in zip(surveys, of_datasets, strict=True):
            path = folder / survey.dataset / f"{number:04d}.npz"
            partial = path.with_suffix(".partial.npz")
            np.savez(partial, **{DISTANCE: distance_mpc}, **images)
            partial.replace(path)


def test_renderings(trained: Path, renderings: Path) -> tuple[Rendering, ...]:
    """Null test (b) of the network in `trained`, with the galaxies of a dataset's `renderings`."""
    network = record.read_network(trained, record.read_run(trained))
    distances, D_p = [], []
    for path in sorted(renderings.glob("[0-9]*[0-9].npz")):
        with np.load(path) as galaxy:
            distances.append(galaxy[DISTANCE])
            names = [name for name in galaxy.files if name != DISTANCE]
            D_p.append({name: predicted_mpc(network, galaxy[name]) for name in names})
    number = np.repeat(np.arange(len(distances)), [len(one) for one in distances])
    together = {name: np.concatenate([one[name] for one in D_p]) for name in D_p[0]}
    return changes(np.concatenate(distances), number, together)


def test_network(
    trained: Path, scenes: Path, renderings: Path | None, params: Nulls, reason: str
) -> NullTests:
    """All null tests of one network.

    Parameters
    ----------
    trained : Path
        Its folder, written by `train`.
    scenes : Path
        Folder of scenes.
    renderings : Path or None
        Folder of renderings; None if there are none.
    params : Nulls
        Section `nulls`.
    reason : str
        Why there are no renderings.

    Returns
    -------
    NullTests
    """
    run = record.read_run(trained)
    return NullTests(
        run_id=run.run_id,
        limits=params.limits,
        scenes=learnt_from_scenes(Observed.read(scenes), run.spec, params.epochs, params.seed),
        renderings=() if renderings is None else test_renderings(trained, renderings),
        not_applicable=reason,
    )


def read_by_reader(folder: Path) -> tuple[Scenes, ...]:
    """Correlations of a linear reader of sharpness on the scenes in `folder`."""
    scenes = Observed.read(folder)
    return correlations(scenes, read_scenes(scenes))


def test_networks(params: Nulls, train: Train, fetch: Fetch, paths: Paths) -> None:
    """Test every network, and write a file for each and the table of all.

    Raises
    ------
    InputError
        When a dataset or a trained network is missing, or no galaxy is light enough.
    """
    datasets = {name: Observed.read(paths.observed(name)) for name in train.datasets}
    names = [f"{dataset}-{network}" for dataset, network in train.items()]
    for name in names:
        record.read_run(paths.trained(name))  # before minutes of work for the others
    grid = RawGrid.read(paths.fetched)
    reasons = {name: not_applicable(data.survey, fetch) for name, data in datasets.items()}
    surveys = [data.survey for name, data in datasets.items() if not reasons[name]]
    with (
        scratch(paths.fetched.with_name(".nulls")) as work,
        replace_folder(paths.nulls) as partial,
        pool(scheduler()) as workers,
    ):
        for dataset, observed in datasets.items():
            write_scenes(work / "scenes" / dataset, observed, grid, params, workers)
        if surveys:
            write_renderings(work / "renderings", surveys, fetch.standin, params, workers)
        where = work.resolve()
        tasks = (
            (
                paths.trained(f"{dataset}-{network}").resolve(),
                where / "scenes" / dataset,
                None if reasons[dataset] else where / "renderings" / dataset,
                params,
                reasons[dataset],
            )
            for dataset, network in train.items()
        )
        results = {}
        bar = tqdm(names, desc="nulls", unit="network")
        for name, tests in zip(bar, in_order(workers, test_network, tasks), strict=True):
            write_null_tests(partial / f"{name}.json", tests)
            results[name] = tests
        readers = {name: read_by_reader(work / "scenes" / name) for name in datasets}
        (partial / "table.md").write_text(null_table(results, readers, params))
    for name, tests in results.items():
        tqdm.write(f"{name}: " + ("; ".join(tests.failures) or "passes its null tests"))


if __name__ == "__main__":
    main()
