"""Measure every hot path against what a user would write or pick instead, and the machine's limits.

    python benchmarks/bench.py                        # all, in 15 minutes on two cores
    python benchmarks/bench.py --quick                # all, small and rough
    python benchmarks/bench.py --only placing grid    # some parts
    python benchmarks/bench.py --keep                 # keep the table; later runs compare with it

Write `results/bench/DATE.md`, `.csv` and `.json`, and print the table, what fell by more than 20 %
since the last kept table of the same kind of machine (`benchmarks/tables`), and each missed aim
with a profile. Competitors run by turns in one process (or each in its own where they start up), so
that a busy machine affects all of them. Read the ratios first, and the load average.
"""

import argparse
import importlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from measuring import Timing, fallen, header, last_table, machine, markdown, write  # noqa: E402

from peculiar.core.device import best_device  # noqa: E402

PARTS = ("standin", "placing", "training", "grid", "pipeline", "prediction")
OUT, KEPT = Path("results/bench"), HERE / "tables"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="some parts")
    parser.add_argument("--quick", action="store_true", help="small and rough: to see it run")
    parser.add_argument("--repeats", type=int, default=5, help="of each measurement")
    parser.add_argument("--keep", action="store_true", help="keep the table in benchmarks/tables")
    chosen = parser.parse_args(arguments)
    if chosen.keep and (chosen.quick or set(chosen.only) != set(PARTS)):
        parser.error("only a whole table is kept: leave --quick and --only out")
    device, start = best_device(), time.monotonic()
    measured = machine(device)
    timings: list[Timing] = []
    missed: list[str] = []
    for part in chosen.only:
        began = time.monotonic()
        rows = importlib.import_module(f"rows_{part}")
        repeats = 1 if chosen.quick else chosen.repeats
        found = list(rows.rows(measured, repeats, chosen.quick, device))
        timings += found
        aims = [
            f"{t.group}, {t.work}: {t.name}, {t.ratio:.3g} for {t.aim:g}" for t in found if t.missed
        ]
        if aims:
            missed += [*aims, *([rows.profile()] if hasattr(rows, "profile") else [])]
        print(f"{part}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    head = header(measured) | {"minutes": round((time.monotonic() - start) / 60, 1)}
    report(head, timings, missed, keep=chosen.keep)


def report(
    head: dict[str, object], timings: list[Timing], missed: list[str], *, keep: bool
) -> None:
    """Write and print the table, what fell, and what missed its aim."""
    print(markdown(head, timings))
    before = last_table(KEPT, str(head["name"]))
    print("## Fell by more than 20 %")
    lost = ["no table of this kind of machine is kept"]
    if before is not None:
        lost = fallen(timings, before) or [f"nothing since {before['date']}"]
    print("\n".join(f"- {line}" for line in lost))
    print("\n## Aims missed")
    print("\n".join(f"- {line}" for line in missed or ["none"]))
    stem = str(head["date"])
    write(OUT, stem, head, timings)
    if keep:
        kind = "".join(c if c.isalnum() else "-" for c in str(head["name"]).lower())
        write(KEPT, f"{kind}-{stem}", head, timings)


if __name__ == "__main__":
    main()
