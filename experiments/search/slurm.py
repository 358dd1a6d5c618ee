"""A search on SLURM: its own daemons on this one machine, and a job cancelled in mid-trial.

    python -m experiments.search.slurm FOLDER --trials 20

Needs Debian's slurm-wlm, munge and postgresql, and root: slurmd starts jobs. Everything is in
FOLDER, listens on loopback, and is stopped at the end.
"""

import argparse
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.search.faults import (
    ROOT,
    audit,
    driven,
    free_port,
    open_study,
    postgres,
    wait_for,
    write_params,
)

CONF = """ClusterName=peculiar
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld}
SlurmdPort={slurmd}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=4000
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@contextlib.contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """SLURM's daemons; what the environment of its clients needs."""
    folder.mkdir(parents=True)
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    munge = folder / "munge"
    munge.mkdir(mode=0o700)
    (munge / "key").write_bytes(os.urandom(128))
    (munge / "key").chmod(0o600)
    conf = folder / "slurm.conf"
    host = socket.gethostname().split(".")[0]
    cpus = os.cpu_count() or 1
    conf.write_text(
        CONF.format(folder=folder, host=host, cpus=cpus, ctld=free_port(), slurmd=free_port())
    )
    environment = os.environ | {"SLURM_CONF": str(conf)}
    daemons: list[subprocess.Popen[bytes]] = []
    commands = [
        [
            "munged",
            "--foreground",
            "--force",
            f"--socket={folder}/munge.socket",
            f"--key-file={munge}/key",
            f"--pid-file={munge}/pid",
            f"--seed-file={munge}/seed",
            f"--log-file={munge}/log",
        ],
        ["slurmctld", "-D", "-f", str(conf)],
        ["slurmd", "-D", "-f", str(conf)],
    ]
    try:
        for command in commands:
            with (folder / f"{command[0]}.out").open("wb") as out:
                daemons.append(subprocess.Popen(command, env=environment, stdout=out, stderr=out))
            time.sleep(2)
        yield {"SLURM_CONF": str(conf)}
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            subprocess.run(["scancel", "--user=root"], env=environment, check=True)
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait()


def jobs(environment: dict[str, str]) -> list[str]:
    """Numbers of the jobs that run."""
    command = ["squeue", "--noheader", "--states=RUNNING", "--format=%i"]
    done = subprocess.run(
        command, env=os.environ | environment, check=True, capture_output=True, text=True
    )
    return done.stdout.split()


def cancelled(folder: Path, trials: int, epoch_s: float) -> dict[str, Any]:
    """Run a search of two jobs, of which one is cancelled; what `audit` counts."""
    start = time.monotonic()
    with slurm(folder / "slurm") as environment, postgres() as server:
        os.environ.update(environment)
        work = folder / "work"
        work.mkdir()
        store = server.database("mlflow")
        search = {
            "cores": 1,
            "memory": "1500MB",
            "walltime": "00:20:00",
            "partition": None,
            "account": None,
            "directives": [],
            "interface": "lo",
            "log_directory": "mlruns/slurm",
            "patience_s": 60,
            "prologue": [
                f"export PYTHONPATH={ROOT}/src:{ROOT}",
                f"export FAULTS_EPOCH_S={epoch_s}",
            ],
        }
        write_params(
            work,
            trials=trials,
            workers=2,
            cluster="slurm",
            slurm=search,
            storage=server.database("optuna"),
        )
        with driven(work, epoch_s, store) as driver:
            study = open_study(work)
            wait_for(study, trials // 3, driver)
            (victim, *_) = jobs(environment)
            subprocess.run(["scancel", victim], check=True)
            print(f"{time.monotonic() - start:.0f} s: job {victim} cancelled", flush=True)
            if driver.wait():
                raise RuntimeError(f"the driver ended with {driver.returncode}")
        return audit(study, store, trials) | {"seconds": round(time.monotonic() - start)}


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--epoch-s", type=float, default=0.5, help="seconds an epoch")
    chosen = parser.parse_args()
    lacking = [name for name in ("munged", "slurmctld", "slurmd") if shutil.which(name) is None]
    if lacking or os.geteuid() != 0:
        sys.exit(f"needs root, and Debian's slurm-wlm and munge (not found: {lacking})")
    chosen.folder.mkdir(parents=True, exist_ok=True)
    print(cancelled(chosen.folder.resolve(), chosen.trials, chosen.epoch_s))


if __name__ == "__main__":
    main()
