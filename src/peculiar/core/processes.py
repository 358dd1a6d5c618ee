"""Tell whether a process still runs, by its number, start, boot, PID namespace and host.

The start is counted from the boot, so that a step of the clock changes nothing. End with one's
parent.
"""

import multiprocessing
import os
import socket
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread

import psutil

PROC = Path("/proc")
MACHINE = Path("/etc/machine-id")
HIDDEN = "hidden"  # start of a process of another user, where /proc shows none of these


def this_process() -> str:
    """Number and start of this process, for `alive`; a later process never has both.

    On Linux "number@start@boot@namespace@machine"; elsewhere "number@time", from psutil.
    """
    pid = os.getpid()
    started, here = _started(pid), _here()
    if started is None or here is None:
        return f"{pid}@{psutil.Process().create_time():.0f}"
    return "@".join((str(pid), started, *here))


def alive(process: str) -> bool:
    """Whether a process, from `this_process` on a machine of this name, may still run.

    Of a machine that was started again it does not. Another container, or another machine of the
    same name, hides its processes: they may run.
    """
    number, started, *where = [*process.split("@"), ""]
    try:
        pid = int(number)
        if not any(where):
            return _alive_since(pid, started)
        boot, namespace, machine, _ = where
        if pid <= 0:
            return False
    except ValueError:
        return False
    here = _here()
    if here is None or machine != here[2]:
        return True
    if boot != here[0]:
        return False
    return namespace != here[1] or _started(pid) in (started, HIDDEN)


def _alive_since(pid: int, time_s: str) -> bool:
    """The same by the time that psutil gives, of which the clock may change."""
    try:
        found = psutil.Process(pid)
        # in containers dead processes often stay as zombies
        running = found.status() != psutil.STATUS_ZOMBIE
        return running and f"{found.create_time():.0f}" == time_s
    except (ValueError, psutil.NoSuchProcess):
        return False


def _started(pid: int) -> str | None:
    """Start of a process in ticks since the boot; None where it has ended, or is a zombie."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        try:
            os.kill(pid, 0)
        except PermissionError:
            return HIDDEN
        except (OSError, OverflowError):
            pass
        return None
    return None if fields[0] in "ZX" else fields[19]  # man 5 proc: fields 3 and 22


def _here() -> tuple[str, str, str] | None:
    """Boot, PID namespace and machine; None where the system tells no boot or namespace."""
    machine = ""
    with suppress(OSError):
        machine = MACHINE.read_text().strip()
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespace = (PROC / "self/ns/pid").readlink().name
    except OSError:
        return None
    return boot, "".join(filter(str.isdigit, namespace)), machine


def this_worker() -> str:
    """Host, number and start of this process, for `gone`."""
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
