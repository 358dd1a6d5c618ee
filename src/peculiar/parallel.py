"""Processes that do a stage's work: this machine's, or the workers of a scheduler of Dask's.

A scheduler is named as Dask names it, in the environment: `DASK_SCHEDULER_ADDRESS`. What is
computed does not depend on it, and therefore it stands in no `params.yaml`.
"""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from peculiar.core.errors import InputError
from peculiar.core.provenance import loaded_code

if TYPE_CHECKING:
    from distributed import Client

SCHEDULER = "DASK_SCHEDULER_ADDRESS"
CONNECT_S = 20
AHEAD = 2  # tasks sent ahead for each that runs


def scheduler() -> str | None:
    """Address of the scheduler that the environment names, or None."""
    return os.environ.get(SCHEDULER) or None


@contextmanager
def connected(address: str, named: str) -> "Iterator[Client]":
    """A client of a scheduler.

    Parameters
    ----------
    address : str
        For example tcp://headnode:8786.
    named : str
        What names it: an option, a key or a variable.

    Raises
    ------
    InputError
        When none answers, it has no workers, or they have other code.
    """
    from distributed import Client  # takes a second, and is seldom asked for

    try:
        client = Client(address, timeout=CONNECT_S)  # type: ignore[no-untyped-call]
    except Exception as error:  # of many kinds, where something else listens
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{named}: no Dask scheduler at {address} ({reason}): start one with `dask scheduler`"
        ) from None
    with client:
        check_code(client, named)
        yield client


@dataclass(frozen=True)
class Pool:
    """Where tasks go.

    Attributes
    ----------
    submit : callable
        Takes a task and its arguments, gives a future with `result` and `cancel`.
    at_once : int
        How many tasks are done at a time.
    """

    submit: Callable[..., Any]
    at_once: int


@contextmanager
def pool(address: str | None, named: str = SCHEDULER) -> Iterator[Pool]:
    """All cores of this machine, or the workers of a scheduler.

    Parameters
    ----------
    address : str or None
        Of a scheduler, or None for this machine.
    named : str
        What names the scheduler.

    Raises
    ------
    InputError
        When no scheduler answers, it has no workers, they have other code, or are lost.
    """
    if address is None:
        cores = os.cpu_count() or 1
        # spawned, not forked: a fork copies locks that other threads hold, such as tqdm's
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(cores, mp_context=context) as processes:
            yield Pool(processes.submit, cores)
        return
    from distributed import KilledWorker

    with connected(address, named) as client:
        threads = sum(client.nthreads().values())  # type: ignore[no-untyped-call]
        try:
            yield Pool(partial(client.submit, pure=False), threads)
        except (KilledWorker, CancelledError) as error:
            raise InputError(
                f"{named}: {address} lost its workers ({type(error).__name__}): see their logs, "
                "then start the same command again"
            ) from None


def check_code(client: "Client", named: str) -> None:
    """Refuse a scheduler without workers, and workers of other code, which they may have imported.

    Raises
    ------
    InputError
        Naming the first such worker.
    """
    address = client.scheduler.address  # type: ignore[union-attr]
    found = client.run(loaded_code, on_error="return")
    if not found:
        raise InputError(f"{named}: {address} has no workers: start `dask worker {address}`")
    for worker, code in found.items():
        if code != loaded_code():
            raise InputError(
                f"{named}: the worker {worker} has other code than this: start it again"
            )


def in_order(
    pool: Pool, task: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]
) -> Iterator[Any]:
    """What a task returns for each of some arguments, in their order, a few of them sent ahead."""
    waiting: deque[Any] = deque()
    try:
        for each in arguments:
            waiting.append(pool.submit(task, *each))
            if len(waiting) > AHEAD * pool.at_once:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
