"""The paper's preliminary array (section 3.3): whether 432 small networks differ.

    python -m experiments.paper.preliminary WORK results/preliminary --galaxies 500

Run `dvc repro search` in a clone, as `experiments.paper.table` does, with a grid in place of a
sampler: two layers, kernels of 3, 5, 7 pixels and 6, 12, 18, 24 filters of each, one stride of 1,
2, 3, five epochs, the paper's learning rate. The paper saw "no difference greater than 2% in L2
validation loss". `preliminary.md` compares the spread of the networks with that of other seeds of
one network. If interrupted, rerun the same command to train the networks that are left.
"""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from experiments.paper.table import command_line, galaxies_of, given, run
from peculiar.core.dataset import Observed
from peculiar.core.errors import InputError, one_sentence
from peculiar.core.params import load
from peculiar.core.survey import Survey
from peculiar.training.params import Train
from peculiar.training.predictions import validate
from peculiar.training.train import share_images, train_network

FILTERS, KERNELS, STRIDES, EPOCHS = [6, 12, 18, 24], [3, 5, 7], [1, 2, 3], 5
FACTORS = ("kernel_1", "filters_1", "kernel_2", "filters_2", "stride")
PAPER_SPREAD = 2.0  # per cent, "no difference greater than"
Array = NDArray[np.float64]


def parameters(
    shipped: dict[str, Any],
    galaxies: int | None,
    validation: float | None,
    strides: Sequence[int] = STRIDES,
) -> dict[str, Any]:
    """`params.yaml` with the paper's array as its search.

    Raises
    ------
    InputError
        For a number of galaxies where they are not simulated.
    """
    params = deepcopy(shipped)
    params["fetch"] = galaxies_of(params["fetch"], galaxies)
    if validation is not None:
        test = params["observe"]["split"]["test"]
        params["observe"]["split"] |= {
            "train": round(1 - test - validation, 6),
            "validation": validation,
        }
    cnn2 = params["train"]["specs"]["cnn2"]
    others = ("layers", "learning_rate")  # which the search decides
    params["train"]["best"] |= {key: value for key, value in cnn2.items() if key not in others}
    trials = len(FILTERS) ** 2 * len(KERNELS) ** 2 * len(strides)
    # 3 s a network to log what is never loaded
    search = {"sampler": "grid", "trials": trials, "epochs": EPOCHS, "models": False}
    params["search"] |= search
    params["search"]["space"] |= {
        "depth": [2],
        "filters": FILTERS,
        "kernel": KERNELS,
        "stride": list(strides),
        "same_stride": True,
        "learning_rate": [cnn2["learning_rate"]],
        "max_multiply_adds": 1e12,
    }
    return params


def main_effects(values: Array) -> list[float]:
    """Share of the variance of a full grid (one axis a factor) that each factor has by itself.

    The grid is complete, so that this is the analysis of variance and no estimate.
    """
    axes = range(values.ndim)
    total = values.var()
    if total == 0:
        return [0.0 for _ in axes]
    return [
        float(values.mean(axis=tuple(a for a in axes if a != axis)).var() / total) for axis in axes
    ]


def as_grid(trials: Table, strides: Sequence[int] = STRIDES) -> Array:
    """Validation L2 of the finished trials, Mpc, an axis for each of `FACTORS`.

    Raises
    ------
    InputError
        When a network of the array is missing.
    """
    levels = (KERNELS, FILTERS, KERNELS, FILTERS, list(strides))
    grid = np.full([len(level) for level in levels], np.nan)
    for row in trials:
        if row["state"] == "COMPLETE":
            places = [
                level.index(int(row[f"params_{name}"]))
                for name, level in zip(FACTORS, levels, strict=True)
            ]
            grid[tuple(places)] = row["value"]
    missing = int(np.isnan(grid).sum())
    if missing:
        raise InputError(f"{missing} of {grid.size} networks are missing: run the script again")
    return grid


def other_seeds(folder: Path, seeds: int) -> Array:
    """Validation L2, Mpc, of the paper's own two layers under other seeds, five epochs each."""
    train = load(Train, folder / "params.yaml")
    observed = Observed.read(folder / "data/observe/uniform")
    layers = [layer.model_dump() for layer in train.specs["cnn2"].layers]
    spec = train.best.complete(
        {"layers": layers, "learning_rate": train.specs["cnn2"].learning_rate}, EPOCHS
    )
    shared = share_images(observed, spec.softening_mag_arcsec2, spec.crop)
    key = {"D": "l2_d_mpc", "D_z": "l2_dz_mpc"}[spec.label]
    losses = []
    raw = folder / "data/fetch"
    for seed in range(seeds):
        network = train_network(observed, spec, 1000 + seed, lambda *_: None, shared, raw)
        losses.append(validate(network, observed)[2][key])
    return np.array(losses)


def report(grid: Array, seeds: Array, survey: Survey, images: dict[str, int]) -> str:
    """What the array shows, in Markdown."""
    middle = float(np.median(grid))
    low, high = np.percentile(grid, [5, 95])
    full, most = 100 * np.ptp(grid) / middle, 100 * (high - low) / middle
    alone = 100 * seeds.std(ddof=1) / middle
    within = 100 * float(grid.std()) / middle
    effects = main_effects(grid)
    lines = [
        f"# The paper's array of two-layer networks on {survey.source} data: {grid.size} of 432",
        "",
        f"{images['train']} training and {images['validation']} validation images, split by "
        f"{survey.split_by}, {EPOCHS} epochs each; L2 on the validation labels.",
        "",
        "| | |",
        "|---|---|",
        f"| least, median, greatest L2 [Mpc] | {grid.min():.2f}, {middle:.2f}, {grid.max():.2f} |",
        f"| greatest less least, of the median [%] | {full:.1f} (paper: up to {PAPER_SPREAD:g}) |",
        f"| 95th less 5th percentile [%] | {most:.1f} |",
        f"| deviation of the {grid.size} networks [%] | {within:.1f} |",
        f"| deviation of {len(seeds)} seeds of one network [%] | {alone:.1f} |",
        "",
        f"The claim of the paper {'holds' if full <= PAPER_SPREAD else 'does not hold'} here.",
        "",
        "| of the variance | share |",
        "|---|---|",
        *(f"| {name} | {share:.3f} |" for name, share in zip(FACTORS, effects, strict=True)),
        f"| all that is not one factor's: their interplay, and the seed | {1 - sum(effects):.3f} |",
        "",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the array and report."""
    parser = command_line(__doc__)
    parser.add_argument("--validation", type=float, help="share of the validation split")
    parser.add_argument(
        "--strides",
        type=int,
        nargs="+",
        choices=STRIDES,
        default=STRIDES,
        help="a part of the array: stride 1 takes seven eighths of the time",
    )
    parser.add_argument("--seeds", type=int, default=8, help="of one network, for comparison")
    chosen = parser.parse_args(arguments)
    with one_sentence():
        work, output, shipped = given(chosen)
        strides = sorted(set(chosen.strides))
        params = parameters(shipped, chosen.galaxies, chosen.validation, strides)
        run(work, params, "search")
        trials = Table.read(work / "results/search/trials.csv", format="ascii.csv")
        grid = as_grid(trials, strides)
        observed = Observed.read(work / "data/observe/uniform")
        images = {split: len(observed.rows(split)) for split in ("train", "validation")}
        text = report(grid, other_seeds(work, chosen.seeds), observed.survey, images)
        output.mkdir(parents=True, exist_ok=True)
        trials.write(output / "trials.csv", format="ascii.csv", overwrite=True)
        (output / "preliminary.md").write_text(text)
        print(text)


if __name__ == "__main__":
    main()
