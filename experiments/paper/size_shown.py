"""Tables of `experiments.paper.paper_size`: rows beside the published ones, claims, recipes."""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import Table

from experiments.paper.claims import EXPLAINED, H0_KMS_MPC, Rows, claims, published
from experiments.spread import spread

if TYPE_CHECKING:
    from experiments.paper.paper_size import Training

Found = dict["Training", dict[str, Any]]
"""What `train_and_judge` keeps, of each training."""
WORDS = {"paper": "as the paper takes its images", "files": "as the files say"}
A2 = "A2"  # the published table
KEY = ("distances", "normalised", "label", "network")
DISTANCES = {"l1_d_mpc": "L1(D)", "l2_d_mpc": "L2(D)"}
REDSHIFTS = {"l1_dz_mpc": "L1(D_z)", "l2_dz_mpc": "L2(D_z)", "velocity_rms_kms": "rms of v"}
ROWS = 32  # of CNNs in Table A2
RATIO = ("l1_d_mpc", "l2_d_mpc")


def rows_of(found: Iterable[tuple["Training", Mapping[str, Any]]]) -> Rows:
    """Results of one reading, recipe and seed, in the order of Table A2."""
    order = {tuple(row[KEY]): number for number, row in enumerate(published().table)}
    made = []
    for one, kept in found:
        key = dict(zip(KEY, key_of(one), strict=True))
        made.append(key | kept["measures"])
    made.sort(key=lambda row: order[tuple(row[name] for name in KEY)])
    return Rows(Table(rows=made))


def key_of(one: "Training") -> tuple[str, bool, str, str]:
    """What names a row of Table A2."""
    return one.distances, one.row.normalised, one.row.label, one.row.published


def side_by_side(found: Found, shown: Mapping[str, str], labels: Sequence[str]) -> Iterator[str]:
    """Rows of Table A2, ours of each reading and theirs, in Markdown."""
    readings = [r for r in WORDS if any(one.reading == r for one in found)]
    columns = [A2, *(f"as {reading}" for reading in readings)]
    heads = [f"{words}, {column}" for words in shown.values() for column in columns]
    ratios = [f"{shown[m]}, as {r} / {A2}" for r in readings for m in shown if m in RATIO]
    head = [*KEY, *heads, *ratios]
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    by_row = {r: group_by_row(found, r) for r in readings}
    for row in published().table:
        key = tuple(row[KEY])
        if key[2] not in labels or not any(key in rows for rows in by_row.values()):
            continue
        cells = [key[0], "yes" if key[1] else "no", *key[2:]]
        for metric in shown:
            cells.append(number(metric, [papers_number(row, metric)]))
            cells += [number(metric, measured(by_row[r], key, metric)) for r in readings]
        for reading in readings:
            for metric in (m for m in shown if m in RATIO):
                ours = measured(by_row[reading], key, metric)
                cells.append(f"{np.mean(ours) / row[metric]:.2f}" if ours else "-")
        yield f"| {' | '.join(cells)} |"


def group_by_row(found: Found, reading: str) -> dict[tuple[Any, ...], list[Mapping[str, Any]]]:
    """Results of the paper's recipe by row, a seed each."""
    rows: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for one, kept in found.items():
        if one.reading == reading and one.recipe == "paper":
            rows.setdefault(key_of(one), []).append(kept)
    return rows


def measured(
    rows: Mapping[tuple[Any, ...], Sequence[Mapping[str, Any]]], key: tuple[Any, ...], metric: str
) -> list[float]:
    """A metric of one row, a seed each."""
    return [kept["measures"][metric] for kept in rows.get(key, [])]


def papers_number(row: Mapping[str, Any], metric: str) -> float:
    """Of the published row; the velocity is 70 x L2(D), since the printed one is exchanged."""
    if metric == "velocity_rms_kms":
        return float(H0_KMS_MPC * row["l2_d_mpc"])
    return float(row[metric])


def number(metric: str, values: Sequence[float]) -> str:
    """Mean and deviation in a cell."""
    return spread(values, 0 if metric.endswith("kms") else 2) if values else "-"


def within(found: Found, reading: str, share: float = 0.1) -> str:
    """How many normalised rows on uniform distances are as near to the published ones."""
    counted: list[bool] = []
    rows = group_by_row(found, reading)
    for row in published().table:
        key = tuple(row[KEY])
        if key[:2] == ("uniform", True) and key in rows:
            ratios = [np.mean(measured(rows, key, m)) / row[m] for m in RATIO]
            counted.append(all(abs(ratio - 1) <= share for ratio in ratios))
    return (
        f"{WORDS[reading].capitalize()}: {sum(counted)} of {len(counted)} normalised CNN rows on "
        f"uniform distances have L1(D) and L2(D) within {100 * share:.0f} % of the published ones."
    )


def recipes(found: Found) -> Iterator[str]:
    """What the constant rate does: L2(D) by recipe, and when the validation loss is least."""
    yield (
        "| reading | distances | network | recipe | L2(D) [Mpc] | least validation L2 [Mpc] | "
        "at epoch | after the last epoch [Mpc] |"
    )
    yield "|---" * 8 + "|"
    for one, kept in found.items():
        if one.row.normalised and one.row.label == "D_z":
            history = np.array(kept["history"])
            cells = [one.reading, one.distances, one.row.network, one.recipe]
            cells += [f"{kept['measures']['l2_d_mpc']:.2f}", f"{history.min():.2f}"]
            cells += [f"{history.argmin() + 1}", f"{history[-1]:.2f}"]
            yield f"| {' | '.join(cells)} |"


def report(found: Found, galaxies: int) -> Iterator[str]:
    """All tables, as Markdown."""
    yield (
        f"{galaxies} stand-in galaxies, four images each, judged on the test split, a quarter of "
        "them. Mpc and km/s; ± is the deviation over seeds. The paper's rms of v is 70 x its "
        "L2(D), since its own column has the normalised and the other rows exchanged. A2: the "
        "published Table A2; as paper: images as the paper takes them; as files: as the files say."
    )
    yield ""
    readings = [r for r in WORDS if any(one.reading == r for one in found)]
    for reading in readings:
        yield within(found, reading)
        yield ""
    yield from ["## Distances", "", *side_by_side(found, DISTANCES, ("D", "D_z")), ""]
    yield from ["## Redshift distances and velocities", ""]
    yield from [*side_by_side(found, REDSHIFTS, ("D_z",)), ""]
    for reading in readings:
        by_seed: dict[int, list[tuple[Training, Mapping[str, Any]]]] = {}
        for one, kept in found.items():
            if one.reading == reading and one.recipe == "paper":
                by_seed.setdefault(one.seed, []).append((one, kept))
        ours = [rows_of(each) for each in by_seed.values() if len(each) == ROWS]
        if ours:  # claims are about the whole table
            yield from [f"## Claims, {WORDS[reading]}", "", *claims(published(), ours), ""]
    yield from [EXPLAINED, "", "## Recipes", "", *recipes(found), ""]


def write_tables(found: Found, galaxies: int, folder: Path) -> None:
    """Write `report.md`, and `table.csv` with a row a training; nothing if there is none."""
    if not found:
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.md").write_text("\n".join(report(found, galaxies)))
    made = [
        {"reading": one.reading, "recipe": one.recipe, "seed": one.seed}
        | dict(zip(KEY, key_of(one), strict=True))
        | kept["measures"]
        | {
            "best_epoch": int(np.argmin(kept["history"])) + 1,
            "best_validation_l2_mpc": min(kept["history"]),
            "last_validation_l2_mpc": kept["history"][-1],
        }
        for one, kept in found.items()
    ]
    with (folder / "table.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(made[0]))
        writer.writeheader()
        writer.writerows(made)
