"""Processes that do a stage's work: this machine's, or the workers of a scheduler of Dask's.

A scheduler is named as Dask names it, in the environment: `DASK_SCHEDULER_ADDRESS`. It changes no
result, and therefore stands in no `params.yaml`.
"""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from peculiar.errors import InputError

if TYPE_CHECKING:
    from distributed import Client

SCHEDULER = "DASK_SCHEDULER_ADDRESS"
CONNECT_S = 20
RETRIES = 2  # of a task whose worker died
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
        When none answers.
    """
    from distributed import Client  # takes a second, and is seldom asked for

    try:
        client = Client(address, timeout=CONNECT_S)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{named}: no Dask scheduler at {address} ({reason}): start one with `dask scheduler`"
        ) from None
    with client:
        yield client


@contextmanager
def pool(address: str | None, named: str = SCHEDULER) -> Iterator[tuple[Executor, int]]:
    """An executor, and how many tasks it does at once.

    Parameters
    ----------
    address : str or None
        Of a scheduler, or None for all cores of this machine.
    named : str
        What names the scheduler.

    Raises
    ------
    InputError
        When no scheduler answers, or it has no workers.
    """
    if address is None:
        cores = os.cpu_count() or 1
        # spawned, not forked: a fork copies locks that other threads hold, such as tqdm's
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(cores, mp_context=context) as processes:
            yield processes, cores
        return
    with connected(address, named) as client:
        threads = sum(client.nthreads().values())  # type: ignore[no-untyped-call]
        if not threads:
            raise InputError(f"{named}: {address} has no workers: start `dask worker {address}`")
        with client.get_executor(pure=False, retries=RETRIES) as tasks:  # type: ignore[no-untyped-call]
            yield tasks, threads


def in_order(
    pool: tuple[Executor, int], task: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]
) -> Iterator[Any]:
    """What a task returns for each of some arguments, in their order, a few of them sent ahead."""
    executor, at_once = pool
    waiting: deque[Future[Any]] = deque()
    try:
        for each in arguments:
            waiting.append(executor.submit(task, *each))
            if len(waiting) > AHEAD * at_once:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
