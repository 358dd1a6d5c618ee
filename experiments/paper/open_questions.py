"""Short answers to the open questions of the paper's section 5.2, and the leak of a split by image.

    python -m experiments.paper.open_questions WORK results/open_questions

WORK is the folder of `experiments.standin.ablation`; its galaxies are observed again where a
question asks for it. Each network is trained for each seed and kept in WORK: if interrupted, rerun
the same command to resume. `open_questions.md` gives means over the seeds and their standard
deviations.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from astropy.table import Table
from numpy.typing import NDArray

from experiments.datasets import make_dataset
from experiments.spread import spread
from experiments.standin.ablation import PAPER, judged, learning_set, run
from peculiar.core.dataset import Observed
from peculiar.core.errors import one_sentence
from peculiar.core.params import load
from peculiar.training.params import Train

NETWORK = "cnn3"
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Question:
    """What is changed of data and network.

    Attributes
    ----------
    observe, network : mapping
        Keys of these sections of `params.yaml` and their values.
    of : str
        Network that they are changed of.
    galaxies : int or None
        Training galaxies that are learnt from; None for all.
    """

    observe: Mapping[str, Any] = field(default_factory=dict)
    network: Mapping[str, Any] = field(default_factory=dict)
    of: str = NETWORK
    galaxies: int | None = None


def smoothed(fwhm_arcsec: float) -> dict[str, Any]:
    """Images behind a Gaussian PSF, without noise."""
    return {"instrument": "smoothed", "fwhm_arcsec": fwhm_arcsec}


FEW = 100  # on two cores a ResNet is for few galaxies, and the middle of their images
QUESTIONS = {
    f"{NETWORK} as in the paper": Question(),
    "loss on fractional errors": Question(network={"loss": "fractional"}),
    "galaxies in a volume": Question(observe={"law": "volume"}),
    "images smoothed, 2.72 arcsec": Question(observe=smoothed(2.72)),
    "images smoothed, 5.44 arcsec": Question(observe=smoothed(5.44)),
    "two rounds of labels": Question(network={"rounds": 2}),
    "six rounds of labels": Question(network={"rounds": 6}),
    "ResNet18, 40 epochs": Question({}, {"crop": 64}, "resnet18", FEW),
    "ResNet18, 160 epochs": Question({}, {"crop": 64, "epochs": 160}, "resnet18", FEW),
}


def seen_as(work: Path, name: str, part: str, changes: Mapping[str, Any]) -> Observed:
    """The galaxies of one part of WORK, "learn" or "judge", observed in another way."""
    params = yaml.safe_load((work / part / "params.yaml").read_text())
    section = params["observe"]
    wanted = dict(changes)
    if "law" in wanted:  # the data set keeps its name: `run` reads it by that
        section["distances"]["uniform"] = section["distances"][wanted.pop("law")]
    if "fwhm_arcsec" in wanted:
        fwhm = dict.fromkeys("ugriz", wanted.pop("fwhm_arcsec"))
        section["instruments"]["smoothed"]["fwhm_arcsec"] = fwhm
    section |= wanted
    folder = work / "questions" / name.replace(" ", "-").replace(",", "") / part
    return make_dataset(folder, params, raw=work / part / "data/fetch")


def renamed(observed: Observed, split: str, name: str) -> Observed:
    """The same images, of which those of one split are in another and all others in none."""
    table = observed.table.copy()
    table["split"] = np.where(np.asarray(table["split"]) == split, name, "unused")
    return Observed(observed.images, table)


def numbers(predicted: Table) -> dict[str, float]:
    """L2(D), the rms of fractional errors, and L2 and mean error of the nearest and last fifth."""
    D, error = np.asarray(predicted["D_mpc"]), np.asarray(predicted["D_p_mpc"] - predicted["D_mpc"])
    near, *_, far = np.array_split(error[np.argsort(D, kind="stable")], 5)

    def rms(values: Array) -> float:
        return float(np.sqrt(np.mean(values**2)))

    return {
        "L2(D) [Mpc]": rms(error),
        "rms of (D_p - D) / D [%]": 100 * rms(error / D),
        "L2, nearest fifth [Mpc]": rms(near),
        "L2, farthest fifth [Mpc]": rms(far),
        "mean D_p - D, nearest fifth [Mpc]": float(near.mean()),
        "farthest fifth [Mpc]": float(far.mean()),
    }


def answer(
    work: Path, name: str, question: Question, train: Train, seeds: Sequence[int]
) -> list[dict[str, float]]:
    """`numbers` of one question, a seed each."""
    folder = work / "questions" / name.replace(" ", "-").replace(",", "")
    learn = seen_as(work, name, "learn", question.observe)
    if question.galaxies is not None:
        learn = learning_set(learn, question.galaxies, name)
    judge = judged(seen_as(work, name, "judge", question.observe))
    spec = train.specs[question.of].model_copy(update=dict(question.network))
    found = []
    for seed in seeds:
        run(folder, name, spec, seed, learn, judge)
        found.append(numbers(Table.read(folder / "runs" / f"{name}, seed {seed}.ecsv")))
    return found


def leaks(
    work: Path, train: Train, networks: Sequence[str], seeds: Sequence[int]
) -> dict[str, list[float]]:
    """L2(D), Mpc, by galaxy less by image, of networks of the same recipe, a seed each.

    Judged by the validation split, which has no part in the paper's training, made large.
    """
    found: dict[str, dict[str, list[float]]] = {name: {} for name in networks}
    shares = {"train": 0.65, "validation": 0.34, "test": 0.01}
    for by in ("galaxy", "image"):
        title = f"split by {by}"
        changes = {"split": shares | {"by": by}}
        learn = seen_as(work, title, "learn", changes)
        seen_as(work, title, "judge", changes)  # whose parameters are a part of the identity
        judge = renamed(learn, "validation", "judge")
        folder = work / "questions" / title.replace(" ", "-")
        for name in networks:
            found[name][by] = [
                run(folder, name, train.specs[name], seed, learn, judge)["l2_d_mpc"]
                for seed in seeds
            ]
    return {
        name: [g - i for g, i in zip(by["galaxy"], by["image"], strict=True)]
        for name, by in found.items()
    }


def table(rows: Mapping[str, Sequence[Mapping[str, float]]]) -> Iterator[str]:
    """All answers in Markdown."""
    head = list(next(iter(rows.values()))[0])
    yield f"| {' | '.join(['question', 'seeds', *head])} |"
    yield "|---" * (2 + len(head)) + "|"
    for name, found in rows.items():
        cells = [spread([numbers[key] for numbers in found]) for key in head]
        yield f"| {name} | {len(found)} | {' | '.join(cells)} |"


def main() -> None:
    """Train, judge and tabulate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path, help="folder of experiments/standin/ablation.py")
    parser.add_argument("output", type=Path, help="folder for open_questions.md")
    parser.add_argument("--seeds", type=int, nargs="+", default=[4, 5, 6])
    parser.add_argument("--only", nargs="+", default=[""], help="questions that begin so")
    chosen = parser.parse_args()
    with one_sentence():
        train, rows = load(Train), {}
        chosen.output.mkdir(parents=True, exist_ok=True)
        lines: list[str] = []
        for name, question in QUESTIONS.items():
            if name.startswith(tuple(chosen.only)):
                rows[name] = answer(chosen.work, name, question, train, chosen.seeds)
                lines = [*table(rows), ""]
                print(lines[-2], flush=True)
                (chosen.output / "open_questions.md").write_text("\n".join(lines))
        if "leak".startswith(tuple(chosen.only)):
            found = leaks(chosen.work, train, PAPER, chosen.seeds)
            lines += ["| network | L2(D) by galaxy less by image [Mpc] |", "|---|---|"]
            lines += [f"| {name} | {spread(values)} |" for name, values in found.items()]
            (chosen.output / "open_questions.md").write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
