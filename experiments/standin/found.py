"""The best network of a search beside the paper's four CNNs, on the same data.

    python -m experiments.standin.found WORK OUTPUT --trials 60 --seeds 4 5 6

For each seed of search and training, make a clone of this repository in WORK and run `dvc repro
evaluate` there. All other parameters are those of `params.yaml`: the network found is trained with
the settings of `train.best`, the paper's with the paper's, for as many epochs. `found.csv` in
OUTPUT gives validation and test L2 of each network and seed; the printed table gives their mean
over seeds and its standard deviation.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from astropy.table import Table, vstack

from experiments.paper.table import CNNS, command_line, galaxies_of, given, run
from experiments.spread import spread
from peculiar.core.errors import one_sentence
from peculiar.runs import record

NETWORKS = (*CNNS, "best")


def parameters(
    shipped: dict[str, Any], seed: int, trials: int, epochs: int, galaxies: int | None = None
) -> dict[str, Any]:
    """`params.yaml` with the paper's CNNs, and a search of this number of trials."""
    params = {name: dict(section) for name, section in shipped.items()}
    params["search"] |= {"trials": trials, "epochs": epochs, "seed": seed, "models": False}
    params["train"] |= {"networks": list(CNNS), "seed": seed}
    params["fetch"] = galaxies_of(params["fetch"], galaxies)
    return params


def measured(folder: Path, dataset: str, seed: int) -> Table:
    """L2, Mpc, of the labels on validation and of the labels and distances on test."""
    there = Table.read(folder / "results/evaluate/table.csv", format="ascii.csv")
    rows = []
    for name in NETWORKS:
        test = there[(there["dataset"] == dataset) & (there["network"] == name)][0]
        made = record.read_run(folder / "results/train" / f"{dataset}-{name}")
        rows.append(
            {
                "source": str(test["source"]),
                "seed": seed,
                "network": name,
                "layers": len(made.spec.layers),
                "validation_l2_dz_mpc": made.validation["l2_dz_mpc"],
                "test_l2_dz_mpc": float(test["l2_dz_mpc"]),
                "test_l2_d_mpc": float(test["l2_d_mpc"]),
                "seconds": made.seconds,
            }
        )
    return Table(rows=rows)


def summary(table: Table) -> str:
    """Means over seeds with their deviation, as a Markdown table."""
    columns = ("validation_l2_dz_mpc", "test_l2_dz_mpc", "test_l2_d_mpc")
    lines = [f"| network | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    for name in NETWORKS:
        own = table[table["network"] == name]
        cells = [spread(own[column].tolist()) for column in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Search, train, evaluate and compare."""
    parser = command_line(__doc__)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=4, help="of a trial")
    parser.add_argument("--seeds", type=int, nargs="+", default=[4, 5, 6])
    chosen = parser.parse_args(arguments)
    with one_sentence():
        work, output, shipped = given(chosen)
        parts = []
        for seed in dict.fromkeys(chosen.seeds):
            folder = work / f"seed-{seed}"
            run(folder, parameters(shipped, seed, chosen.trials, chosen.epochs, chosen.galaxies))
            parts.append(measured(folder, shipped["search"]["dataset"], seed))
        table = vstack(parts)
        output.mkdir(parents=True, exist_ok=True)
        table.write(output / "found.csv", format="ascii.csv", overwrite=True)
        print(f"{table['source'][0]} data, {len(parts)} seeds\n\n{summary(table)}")


if __name__ == "__main__":
    main()
