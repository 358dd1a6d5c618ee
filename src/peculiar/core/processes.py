"""Tell whether a process still runs, by its number, start time and host."""

import os
import socket

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
