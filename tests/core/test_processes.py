import os
import subprocess
import sys
import time

import psutil

from peculiar.core import processes


def test_a_reused_pid_is_not_taken_for_the_run():
    started = psutil.Process().create_time()
    assert processes.alive(f"{os.getpid()}@{started:.0f}")
    assert not processes.alive(f"{os.getpid()}@{started - 100:.0f}")
    assert not processes.alive("")


def test_a_zombie_is_dead():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = psutil.Process(process.pid).create_time()
    name = f"{process.pid}@{started:.0f}"
    assert processes.alive(name)
    process.kill()
    deadline = time.monotonic() + 20
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not processes.alive(name)
    with process:
        pass
    assert not processes.alive(name)


def test_a_worker_of_another_host_is_not_known_to_be_gone():
    here = processes.this_worker()
    assert not processes.gone(here)
    host, _, process = here.rpartition("/")
    assert processes.gone(f"{host}/{process}1")
    assert not processes.gone(f"elsewhere/{process}1")
