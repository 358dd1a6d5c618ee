"""A search on real servers, with faults: tests the promises of `docs/cluster.md` on one machine.

    python -m experiments.search.faults FOLDER --trials 40

PostgreSQL (Debian's, started here on loopback) holds the study and MLflow's runs. Four Dask workers
run short trials that train nothing. A worker is killed, the database is restarted, the driver is
killed and restarted. In the end all trials must be complete, none missing or duplicated, each with
one finished run, and no run still running.
"""

import argparse
import contextlib
import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import yaml

from peculiar.core.params import load
from peculiar.core.provenance import digests
from peculiar.networks.params import NetworkSection
from peculiar.pipeline import search
from peculiar.pipeline.paths import Paths
from peculiar.runs import tracking
from peculiar.search import storage
from peculiar.search import study as studies
from peculiar.search.objective import Objective
from peculiar.search.params import Search
from peculiar.search.spool import Logbook
from peculiar.training.params import Train

ROOT = Path(__file__).resolve().parents[2]
BIN = Path("/usr/lib/postgresql/15/bin")
EPOCHS = 4
PATIENCE_S = 240  # longer than a trial without a heart is waited for


class Nothing(Objective):
    """An objective that trains nothing, slowly."""

    def refused(self, _searched: dict[str, Any]) -> tuple[dict[str, float], str]:
        """Nothing is."""
        return {}, ""

    def values(self, trial: studies.Trial, spec: NetworkSection, book: Logbook) -> dict[str, float]:
        """Curves of a training, and its learning rate for a loss."""
        for epoch in range(1, self.params.epochs + 1):
            time.sleep(float(os.environ.get("FAULTS_EPOCH_S", "0")))
            book.curves({"epoch": epoch, "validation_l2_mpc": 10 / epoch})
            studies.report(trial, 10 / epoch, epoch)
        book.metrics({"l2": spec.learning_rate}, prefix="objective_")
        return {"l2": spec.learning_rate, "parameters": 1.0, "seconds": 1.0}


def free_port() -> int:
    """A free port."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Postgres:
    """A server on loopback, which does not run as root: it runs as `postgres` then.

    Its files are in a folder of their own below the system's temporary folder: other folders
    may be closed to that user, pytest's are.
    """

    def __init__(self) -> None:
        self.data, self.port = Path(tempfile.mkdtemp(prefix="peculiar-postgres-")), free_port()
        self._as = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        self.user = "postgres" if self._as else getpass.getuser()
        if self._as:
            shutil.chown(self.data, "postgres")
        self._run("initdb", "-D", str(self.data), "-A", "trust", "-U", self.user, "--no-sync")

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as, str(BIN / program), *arguments]
        subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL)

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-p {self.port} -h 127.0.0.1 -k '' -c fsync=off"
        log = str(self.data / "log")
        self._run("pg_ctl", "-D", str(self.data), "-w", "-l", log, "-o", options, "start")

    def stop(self) -> None:
        """End its connections and stop it."""
        self._run("pg_ctl", "-D", str(self.data), "-w", "-m", "fast", "stop")

    def database(self, name: str) -> str:
        """URL of a new database."""
        here = ["-h", "127.0.0.1", "-p", str(self.port), "-U", self.user]
        self._run("createdb", *here, name)
        return f"postgresql://{self.user}@127.0.0.1:{self.port}/{name}"


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """A running server, of which nothing is left in the end."""
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):  # where it does not run
            server.stop()
        shutil.rmtree(server.data)


def write_params(folder: Path, **search: Any) -> None:
    """The shipped parameters with another search."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["search"] |= {"epochs": EPOCHS, "sampler": "random"} | search
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    # an empty dataset: nothing is trained, but a study belongs to data
    Paths(folder).observed(params["search"]["dataset"]).mkdir(parents=True, exist_ok=True)


def drive(folder: Path) -> None:
    """The search's driver, with an objective that trains nothing."""
    vars(search)["Objective"] = Nothing
    search.main([], folder)


@contextlib.contextmanager
def driven(folder: Path, epoch_s: float, store: str | None) -> Iterator[subprocess.Popen[bytes]]:
    """A driver in a process of its own, which ends with its workers whatever happens here."""
    environment = os.environ | {
        "FAULTS_EPOCH_S": str(epoch_s),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
    }
    for other in ("MLFLOW_TRACKING_URI", "DASK_SCHEDULER_ADDRESS"):
        environment.pop(other, None)
    if store is not None:
        environment["MLFLOW_TRACKING_URI"] = store
    command = [sys.executable, "-m", "experiments.search.faults", "--drive", str(folder)]
    driver = subprocess.Popen(command, env=environment, cwd=folder, start_new_session=True)
    try:
        yield driver
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()


def open_study(folder: Path) -> storage.Study:
    """The study that the driver of a folder works on."""
    paths = Paths(folder)
    params, train = load(Search, paths.params), load(Train, paths.params)
    data = digests(search.inputs(params, train, paths), folder)
    return storage.open_study(search.plan(params, train, data, paths))


def wait_for(study: storage.Study, finished: int, driver: subprocess.Popen[bytes]) -> None:
    """Wait until this number of trials have finished."""
    deadline = time.monotonic() + PATIENCE_S
    while len(studies.finished(study)) < finished:
        if driver.poll() is not None:
            raise RuntimeError(f"the driver ended with {driver.returncode}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"no {finished} trials within {PATIENCE_S} s")
        time.sleep(0.2)


def workers_of(driver: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Processes of Dask's workers: the children that are no resource tracker."""
    found = []
    for child in psutil.Process(driver.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


def audit(study: storage.Study, store: str, trials: int) -> dict[str, Any]:
    """Count trials and runs, and raise where one is missing, twice or left running."""
    states = Counter(trial.state.name for trial in study.trials)
    numbers = [trial.number for trial in study.trials]
    good = {str(trial.number) for trial in study.trials if trial.state.name == "COMPLETE"}
    tracking.attach(store)
    children = tracking.children(study.user_attrs["run_id"])
    runs = Counter(number for status, number in children.values() if status == "FINISHED")
    statuses = Counter(status for status, _ in children.values())
    drawn = Counter(
        json.dumps(trial.user_attrs[studies.SEARCHED]) for trial in studies.finished(study)
    )
    retried = [
        n for trial in study.trials for n in trial.system_attrs.get("retry_history", [])[-1:]
    ]
    failed = [trial.number for trial in study.trials if trial.state.name == "FAIL"]
    assert numbers == list(range(len(numbers))), "a number is missing or twice"
    assert states["COMPLETE"] == trials, states
    assert states["RUNNING"] == states["WAITING"] == 0, states
    assert runs == Counter(good), "not one finished run a trial"
    assert statuses["RUNNING"] == 0, statuses
    assert max(drawn.values()) == 1, "a network was finished twice"
    assert sorted(retried) == failed, "a failed trial was not run again once"
    return {"trials": dict(states), "runs": dict(statuses)}


def faults(folder: Path, trials: int, workers: int, epoch_s: float) -> dict[str, Any]:
    """Run the search with its three faults; what `audit` counts."""
    start = time.monotonic()
    with postgres() as server:
        work = folder / "work"
        work.mkdir()
        store = server.database("mlflow")
        write_params(work, trials=trials, workers=workers, storage=server.database("optuna"))
        with driven(work, epoch_s, store) as driver:
            study = open_study(work)
            wait_for(study, trials // 5, driver)
            workers_of(driver)[0].send_signal(signal.SIGKILL)
            print(f"{time.monotonic() - start:.0f} s: a worker killed", flush=True)
            wait_for(study, 2 * trials // 5, driver)
            server.stop()
            time.sleep(2)
            server.start()
            print(f"{time.monotonic() - start:.0f} s: PostgreSQL started again", flush=True)
            wait_for(study, 3 * trials // 5, driver)
            driver.kill()
            driver.wait()
            print(f"{time.monotonic() - start:.0f} s: the driver killed", flush=True)
            with driven(work, epoch_s, store) as second:
                if second.wait(PATIENCE_S):
                    raise RuntimeError(f"the second driver ended with {second.returncode}")
        found = audit(study, store, trials)
        assert (work / "results/search/best.yaml").exists()
    return found | {"seconds": round(time.monotonic() - start)}


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--epoch-s", type=float, default=0.25, help="seconds an epoch")
    parser.add_argument("--drive", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.drive:
        drive(chosen.folder)
        return
    # so that nothing started here outlives it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))
    chosen.folder.mkdir(parents=True, exist_ok=True)
    print(
        json.dumps(faults(chosen.folder.resolve(), chosen.trials, chosen.workers, chosen.epoch_s))
    )


if __name__ == "__main__":
    main()
