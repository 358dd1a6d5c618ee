"""Run tasks with Dask: on this machine, on the workers of a scheduler, or in SLURM jobs.

Dask sends a task to a worker, and to another worker if the first dies.
"""

import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dask
import torch
from dask_jobqueue.slurm import SLURMCluster
from distributed import Client, Nanny, Scheduler, SpecCluster, as_completed

from peculiar.core.errors import InputError
from peculiar.parallel import SCHEDULER, connected, scheduler
from peculiar.search.params import Search

TASK_RETRIES = 2  # of a task that raised, for example because its database was down
LOOPBACK = "127.0.0.1"
# the dashboard would be open to the network, at a port that is often taken
QUIET = {"dashboard": False, "dashboard_address": f"{LOOPBACK}:0"}


def where(params: Search) -> tuple[str, str]:
    """Where trials run, "local", "slurm" or the address of a scheduler, and the setting it is from.

    `search.cluster: local` means this machine, unless the environment names a scheduler for all
    stages.
    """
    shared = scheduler()
    if params.cluster == "local" and shared is not None:
        return shared, SCHEDULER
    return params.cluster, "params.yaml: search.cluster"


@contextmanager
def client(params: Search) -> Iterator[Client]:
    """Connect to workers, of one task at a time each, at the place that `where` returns.

    Raises
    ------
    InputError
        When no scheduler answers at the address, or its workers cannot take part.
    """
    address, named = where(params)
    # a worker that trains may be busy in one call for minutes
    with dask.config.set({"distributed.comm.timeouts.tcp": "300s"}):
        if address in ("local", "slurm"):
            made = _slurm(params) if address == "slurm" else _local(params)
            with made, Client(made) as own:  # type: ignore[no-untyped-call]
                yield own
            return
        with connected(address, named) as shared:
            if params.storage == "journal":
                check_hosts(shared)
            yield shared


def check_hosts(client: Client) -> None:
    """Refuse workers on other machines if the study is a file on this one.

    Raises
    ------
    InputError
        Names the first such machine.
    """
    hosts = client.run(socket.gethostname)
    if others := sorted(set(hosts.values()) - {socket.gethostname()}):
        raise InputError(
            "params.yaml: search.storage: a journal is for one machine, and a worker runs on "
            f"{others[0]}: take postgresql://..."
        )


def worker_environments(workers: int, cores: int, gpus: int) -> list[dict[str, str]]:
    """Environment of each worker on a machine: a share of the cores and one GPU."""
    threads = str(max(1, cores // workers))
    shared = {f"{name}_NUM_THREADS": threads for name in ("OMP", "MKL", "OPENBLAS")}
    one = [{"CUDA_VISIBLE_DEVICES": str(i % gpus)} if gpus else {} for i in range(workers)]
    return [shared | gpu for gpu in one]


def _local(params: Search) -> SpecCluster:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    environments = worker_environments(params.workers, cores or 1, torch.cuda.device_count())
    common = {"host": LOOPBACK, "nthreads": 1, "dashboard": False, "memory_limit": 0}
    common |= {"silence_logs": logging.ERROR}
    options = {"host": LOOPBACK, "port": 0} | QUIET
    return SpecCluster(  # type: ignore[no-untyped-call]
        scheduler={"cls": Scheduler, "options": options},
        workers={
            number: {"cls": Nanny, "options": common | {"env": environment}}
            for number, environment in enumerate(environments)
        },
        silence_logs=logging.ERROR,
    )


def _slurm(params: Search) -> SLURMCluster:
    """Start a job per worker; Dask submits another when one ends."""
    jobs = SLURMCluster(**_options(params))
    jobs.adapt(minimum_jobs=params.workers, maximum_jobs=params.workers)
    return jobs


def job_script(params: Search) -> str:
    """The script that is submitted for each worker."""
    with SLURMCluster(**_options(params)) as jobs:
        return str(jobs.job_script())


def _options(params: Search) -> dict[str, Any]:
    slurm = params.slurm
    environment = worker_environments(1, slurm.cores, gpus=0)[0]  # SLURM gives the GPUs
    return {
        "cores": 1,  # tasks at a time
        "processes": 1,
        "job_cpu": slurm.cores,
        "memory": slurm.memory,
        "walltime": slurm.walltime,
        "queue": slurm.partition,
        "account": slurm.account,
        "job_extra_directives": list(slurm.directives),
        "job_script_prologue": [
            *(f"export {key}={value}" for key, value in environment.items()),
            *slurm.prologue,
        ],
        "interface": slurm.interface,
        "log_directory": slurm.log_directory,
        "death_timeout": slurm.patience_s,
        "scheduler_options": QUIET,
    }


def carry(
    client: Client, task: Callable[..., Any], arguments: list[tuple[Any, ...]]
) -> Iterator[Any]:
    """Run a task with each tuple of arguments; yields the results as they arrive."""
    futures = [client.submit(task, *each, retries=TASK_RETRIES, pure=False) for each in arguments]
    try:
        for future in as_completed(futures):  # type: ignore[no-untyped-call]
            yield future.result()
            future.release()
    finally:
        client.cancel(futures)  # type: ignore[no-untyped-call]
