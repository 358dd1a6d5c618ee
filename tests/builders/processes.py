"""Processes that end with the test that started them, whatever happens in it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import requests


@contextlib.contextmanager
def started(*arguments: str, **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Python with these arguments, in a session of its own.

    When the block ends it is killed with all that it started, and waited for.

    Parameters
    ----------
    *arguments : str
        Of the interpreter.
    **options
        Of `subprocess.Popen`.
    """
    with subprocess.Popen(
        [sys.executable, *arguments], start_new_session=True, **options
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # all have ended
                os.killpg(process.pid, signal.SIGKILL)


def wait_until(
    condition: Callable[[], object],
    process: subprocess.Popen[Any] | None = None,
    seconds: float = 120,
) -> None:
    """Wait until something holds; fail where it does not in time, or the process ends before."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, f"it ended with {process.returncode}"
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


def answers(url: str) -> bool:
    """Whether a server gives a page."""
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False
