"""`peculiar results`: the table of the latest evaluation."""

import argparse
import csv
import math
from collections.abc import Mapping

from peculiar.cli.options import Commands, add_command, aligned
from peculiar.core.errors import InputError
from peculiar.pipeline.paths import Paths

TABLE = Paths().evaluated / "table.csv"
NUMBERS = {  # column of the table: header, and digits behind the point
    "l2_d_mpc": ("L2(D) [Mpc]", 2),
    "posterior_rms_kms": ("posterior rms [km/s]", 0),
    "coverage_68": ("68% coverage", 3),
}
BEST = "posterior_rms_kms"


def add(commands: Commands) -> None:
    """Add `results`."""
    add_command(
        commands,
        "results",
        print_results,
        "print the latest evaluation",
        "Print how well each network does on the test split, the best first: rms error of the "
        "distance, rms error of the peculiar velocity's posterior mean, and coverage (the share "
        "of true velocities within the 68% interval). Errors are bootstrap deviations.",
        "peculiar results",
    )


def print_results(_: argparse.Namespace) -> None:
    """Print the table of the working folder."""
    try:
        with TABLE.open(newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise InputError(
            f"there are no results here: {TABLE} is missing; run `peculiar evaluate` or "
            "`make repro` first"
        ) from None
    if not rows or not {"dataset", "source", "network", BEST} <= rows[0].keys():
        raise InputError(f"{TABLE} is not a table of results: run `peculiar evaluate` again")
    print(results_text(rows))


def results_text(rows: list[dict[str, str]]) -> str:
    """The table, the lowest posterior rms first; rows without one last."""
    best_first = sorted(rows, key=lambda row: (math.isnan(_number(row, BEST)), _number(row, BEST)))
    header = ["data", "network", *(name for name, _ in NUMBERS.values())]
    cells = [
        [
            f"{row['dataset']} ({row['source']})",
            row["network"],
            *(_cell(row, key, digits) for key, (_, digits) in NUMBERS.items()),
        ]
        for row in best_first
    ]
    return f"test split, {TABLE}\n{aligned([header, *cells])}"


def _number(row: Mapping[str, str], key: str) -> float:
    return float(row.get(key) or "nan")


def _cell(row: Mapping[str, str], key: str, digits: int) -> str:
    value, error = _number(row, key), _number(row, f"{key}_err")
    return "-" if math.isnan(value) else f"{value:.{digits}f} ± {error:.{digits}f}"
