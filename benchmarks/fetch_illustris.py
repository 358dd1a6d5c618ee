"""Rates and memory of the downloader, against the tests' server.

The server runs in a process of its own and waits 20 ms before each answer. Rates are of 40 galaxies
of 36 filters x 4 cameras x 16^2 pixels, with one connection and with three by turns. Memory is the
peak of a fresh process that fetches 2, then of one that fetches 10 galaxies of 256^2 pixels (37.8
MB in cubes, each), whose files the server makes beforehand.
"""

import json
import multiprocessing
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from builders.illustris_server import (  # type: ignore[import-not-found]  # noqa: E402
    KEY,
    Behaviour,
    Subhalo,
    order,
    running,
)
from peculiar.galaxies.illustris.archive import fill  # noqa: E402
from peculiar.galaxies.params import IllustrisSection  # noqa: E402

RUNS = 5


def serve(parameters: dict[str, Any], galaxies: int, pipe: Any) -> None:
    """Run the server until the pipe says so."""
    behaviour = Behaviour([Subhalo(number) for number in range(galaxies)], **parameters)
    for number in range(galaxies):
        behaviour.content(number)
    with running(behaviour) as server:
        pipe.send(order(Path(), server))
        pipe.recv()


def fetch(section: dict[str, Any]) -> None:
    """Fetch into a new folder and print galaxies/s and the peak of memory."""
    with tempfile.TemporaryDirectory() as folder:
        settings = IllustrisSection(**section | {"folder": folder})
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        start = time.perf_counter()
        filled = fill(settings, ("u", "g", "r", "i", "z"), KEY)
        rate = len(filled.paths) / (time.perf_counter() - start)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps([rate, before, peak]))


def measured(section: dict[str, Any], **changes: Any) -> list[float]:
    """What `fetch` prints, in a fresh process."""
    command = [sys.executable, __file__, json.dumps(section | changes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(value) for value in json.loads(done.stdout.splitlines()[-1])]


def served(parameters: dict[str, Any], galaxies: int) -> tuple[dict[str, Any], Any, Any]:
    """Start a server; its section of params.yaml, the pipe that ends it, and its process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(parameters, galaxies, theirs))
    process.start()
    return ours.recv(), ours, process


def main() -> None:
    """Print the tables."""
    section, pipe, process = served({"delay_s": 0.02}, 40)
    for run in range(RUNS):
        rates = {n: measured(section, connections=n)[0] for n in (1, 3)}
        print(f"run {run}: " + ", ".join(f"{n}: {r:.1f} galaxies/s" for n, r in rates.items()))
    pipe.send("end")
    process.join()
    section, pipe, process = served({"pixels": 256}, 10)
    for galaxies in (2, 10):
        rate, before, peak = measured(section, galaxies=galaxies, connections=3)
        print(
            f"{galaxies} large galaxies: {rate:.1f}/s, peak RSS {peak:.0f} MiB, "
            f"{before:.0f} MiB of it before the fetch"
        )
    pipe.send("end")
    process.join()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        fetch(json.loads(sys.argv[1]))
    else:
        main()
