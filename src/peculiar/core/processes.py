"""Whether the process that began something still runs, told by its number, start and host."""

import os
import socket

import psutil


def this_process() -> str:
    """Number and start of the present process, never those of a later one."""
    return f"{os.getpid()}@{psutil.Process().create_time():.0f}"


def alive(process: str) -> bool:
    """Whether a process of this machine, from `this_process`, still runs."""
    pid, _, started = process.partition("@")
    try:
        found = psutil.Process(int(pid))
        # in containers the dead often stay as zombies, which nobody waits for
        running = found.status() != psutil.STATUS_ZOMBIE
        return running and f"{found.create_time():.0f}" == started
    except (ValueError, psutil.NoSuchProcess):
        return False


def this_worker() -> str:
    """Host and process, for `gone`."""
    return f"{socket.gethostname()}/{this_process()}"


def gone(process: str) -> bool:
    """Whether a process, from `this_worker`, was one of this machine and is no more."""
    host, _, here = process.rpartition("/")
    return host in ("", socket.gethostname()) and not alive(here)
