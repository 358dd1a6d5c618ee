"""What Optuna, MLflow and Dask cost per trial, measured with trials that train nothing.

    python benchmarks/search_overhead.py FOLDER --trials 10 100 1000
    python benchmarks/search_overhead.py FOLDER --trials 40 --workers 1 2 --epoch-s 0.25

Each row is a study of its own in a fresh process: the journal and MLflow's SQLite, four epochs per
trial, each with its `log_batch`. Seconds per trial are the time from the start of the first trial
to the end of the last, divided by their number, without the start of processes.
"""

import argparse
import resource
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments.search.faults import driven, open_study, write_params


def seconds(folder: Path, trials: int, workers: int, sampler: str, epoch_s: float) -> list[float]:
    """Seconds a trial, in all and of the last tenth, and CPU seconds of all with their start."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    folder.mkdir(parents=True)
    write_params(folder, trials=trials, workers=workers, sampler=sampler)
    with driven(folder, epoch_s, None) as driver:
        if driver.wait():
            raise RuntimeError("the driver failed")
    done = open_study(folder).trials
    ended = sorted(t.datetime_complete for t in done if t.datetime_complete is not None)
    first = min(t.datetime_start for t in done if t.datetime_start is not None)
    last = max(1, trials // 10)
    whole = (ended[-1] - first).total_seconds() / trials
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return [whole, (ended[-1] - ended[-1 - last]).total_seconds() / last, cpu]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trials", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1])
    parser.add_argument("--sampler", default="random")
    parser.add_argument("--epoch-s", type=float, default=0.0)
    chosen = parser.parse_args()
    titles = ["trials", "workers", "sampler", "seconds a trial", "of the last tenth", "CPU seconds"]
    print("| " + " | ".join(titles) + " |\n" + "|---" * len(titles) + "|")
    for workers in chosen.workers:
        for trials in chosen.trials:
            folder = chosen.folder.resolve() / f"{chosen.sampler}-{trials}-{workers}"
            row = seconds(folder, trials, workers, chosen.sampler, chosen.epoch_s)
            cells = " | ".join(f"{value:.3f}" for value in row)
            print(f"| {trials} | {workers} | {chosen.sampler} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
