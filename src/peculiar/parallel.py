"""Run the tasks of a stage on all cores of this machine, or on the workers of a Dask scheduler.

The environment variable `DASK_SCHEDULER_ADDRESS` names the scheduler, as for Dask itself. Results
do not depend on it, so it is not a key of `params.yaml`.
"""

import asyncio
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
from peculiar.core.processes import end_with_parent
from peculiar.core.provenance import loaded_code

if TYPE_CHECKING:
    from distributed import Client

SCHEDULER = "DASK_SCHEDULER_ADDRESS"
CONNECT_S = 20
AHEAD = 2  # tasks queued per running task


def scheduler() -> str | None:
    """Address of the scheduler in `DASK_SCHEDULER_ADDRESS`, or None."""
    return os.environ.get(SCHEDULER) or None


@contextmanager
def connected(address: str, named: str) -> "Iterator[Client]":
    """Connect to a scheduler.

    Parameters
    ----------
    address : str
        Address of the scheduler, for example tcp://headnode:8786.
    named : str
        Option, key or variable that holds the address, for error messages.

    Yields
    ------
    distributed.Client
        Its workers run the code of this process.

    Raises
    ------
    InputError
        When no scheduler answers, it has no workers, or a worker has other code.
    """
    from distributed import Client  # a second to import, and seldom needed

    try:
        asyncio.run(_greet(address))
        client = Client(address, timeout=CONNECT_S)  # type: ignore[no-untyped-call]
    except Exception as error:  # many kinds, when another server listens there
        reason = (str(error).splitlines() or [f"no answer in {CONNECT_S} s"])[0]
        raise InputError(
            f"{named}: no Dask scheduler at {address} ({reason}): start one with `dask scheduler`"
        ) from None
    with client:
        check_code(client, named)
        yield client


async def _greet(address: str) -> None:
    """Connect to a scheduler once: a Client waits without end for one that does not answer."""
    from distributed.comm.core import connect
    from distributed.security import Security

    keys = Security().get_connection_args("client")  # type: ignore[no-untyped-call]
    greeting = connect(address, CONNECT_S, **keys)  # type: ignore[no-untyped-call]
    await (await asyncio.wait_for(greeting, CONNECT_S)).close()


@dataclass(frozen=True)
class Pool:
    """Processes or workers that run tasks.

    Attributes
    ----------
    submit : callable
        Takes a task and its arguments; returns a future with `result` and `cancel`.
    at_once : int
        Number of tasks that run at the same time.
    """

    submit: Callable[..., Any]
    at_once: int


@contextmanager
def pool(address: str | None, named: str = SCHEDULER) -> Iterator[Pool]:
    """Open a pool of all cores of this machine, or of the workers of a scheduler.

    Parameters
    ----------
    address : str or None
        Address of a scheduler, or None for this machine.
    named : str
        Option, key or variable that holds the address, for error messages.

    Yields
    ------
    Pool
        Open until the block ends.

    Raises
    ------
    InputError
        As in `connected`, and when the workers are lost.
    """
    if address is None:
        cores = os.cpu_count() or 1
        # spawned, not forked: a fork copies locks that other threads hold, such as tqdm's
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(cores, context, end_with_parent) as processes:
            yield Pool(processes.submit, cores)
        return
    from distributed import KilledWorker

    with connected(address, named) as client:
        threads = sum(client.nthreads().values())  # type: ignore[no-untyped-call]
        try:
            yield Pool(partial(client.submit, pure=False), threads)
        except (KilledWorker, CancelledError) as error:
            raise InputError(
                f"{named}: {address} lost its workers ({type(error).__name__}): read their logs, "
                "then run the same command again"
            ) from None


def check_code(client: "Client", named: str) -> None:
    """Check that a scheduler has workers, and that they have imported the code of this process.

    Raises
    ------
    InputError
        When there are no workers, or one has other code; the message names the first such worker.
    """
    address = client.scheduler.address  # type: ignore[union-attr]
    code_of_worker = client.run(loaded_code, on_error="return")
    if not code_of_worker:
        raise InputError(f"{named}: {address} has no workers: start `dask worker {address}`")
    for worker, code in code_of_worker.items():
        if code != loaded_code():
            raise InputError(
                f"{named}: the worker {worker} has other code than this process: restart the worker"
            )


def in_order(
    pool: Pool, task: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]
) -> Iterator[Any]:
    """Run a task for each tuple of arguments, and yield the results in the same order.

    At most `AHEAD` tasks per running task are queued, so that few results wait in memory.
    """
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
