"""Tell whether a process still runs, by its number, start time and host; end with one's parent."""

import multiprocessing
import os
import socket
from multiprocessing.process import BaseProcess
from threading import Thread

import psutil


def this_process() -> str:
    """Number and start time of this process, for `alive`; a later process never has both."""
    return f"{os.getpid()}@{psutil.Process().create_time():.0f}"


def alive(process: str) -> bool:
    """Whether a process of this machine, from `this_process`, still runs."""
    pid, _, started = process.partition("@")
    try:
        found = psutil.Process(int(pid))
        # in containers dead processes often stay as zombies
        running = found.status() != psutil.STATUS_ZOMBIE
        return running and f"{found.create_time():.0f}" == started
    except (ValueError, psutil.NoSuchProcess):
        return False


def this_worker() -> str:
    """Host, number and start time of this process, for `gone`."""
    return f"{socket.gethostname()}/{this_process()}"


def gone(process: str) -> bool:
    """Whether a process, from `this_worker`, ran on this machine and has ended."""
    host, _, here = process.rpartition("/")
    return host in ("", socket.gethostname()) and not alive(here)


def end_with_parent() -> None:
    """End this process, a child from `multiprocessing`, as soon as its parent has died.

    Else the workers of a pool whose parent was killed wait for tasks for ever.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)  # there is nobody left to tell
