import os
import subprocess

import psutil
import pytest

from builders.processes import started, wait_until
from peculiar.core import processes

BOOT, NAMESPACE, MACHINE = "b00t", "4026531836", "0ff1ce"


@pytest.fixture(params=["proc", "psutil"])
def system(request, monkeypatch):
    """Linux, and a system without /proc."""
    if request.param == "psutil":
        monkeypatch.setattr(processes, "_here", lambda: None)
    return request.param


def changed(process, number, text):
    """A process whose name differs in one part."""
    parts = process.split("@")
    parts[number] = text
    return "@".join(parts)


def test_a_reused_number_is_not_taken_for_the_run(system):
    here = processes.this_process()
    assert here.count("@") == {"proc": 4, "psutil": 1}[system]
    assert processes.alive(here)
    assert not processes.alive(changed(here, 1, str(int(here.split("@")[1]) - 100)))
    assert not processes.alive(changed(here, 0, "1"))


@pytest.mark.parametrize("name", ["", "@", "x@1", "1@", "-1@5", "0@5@b@n@m", "x@1@b@n@m", "1@2@3"])
@pytest.mark.usefixtures("system")
def test_a_damaged_name_is_of_no_process(name, monkeypatch):
    monkeypatch.setattr(processes, "_here", lambda: ("b", "n", "m"))
    assert not processes.alive(name)


def test_a_zombie_is_dead(system):
    with started("-c", "input()", stdin=subprocess.PIPE) as process:
        there = psutil.Process(process.pid)
        name = f"{process.pid}@{there.create_time():.0f}"
        if system == "proc":
            here = processes.this_process()
            name = changed(changed(here, 0, str(process.pid)), 1, processes._started(process.pid))
        assert processes.alive(name)
        process.kill()
        wait_until(lambda: there.status() == psutil.STATUS_ZOMBIE)
        assert not processes.alive(name)
    assert not processes.alive(name)


@pytest.mark.parametrize("step_s", [-86400.0, -1.0, 3.0, 3600.0])
def test_a_step_of_the_clock_ends_no_run(monkeypatch, step_s):
    """psutil adds the start since the boot to a time of the boot that moves with the clock."""
    here = processes.this_process()
    create_time = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda own: create_time(own) + step_s)
    assert processes.alive(here)
    assert processes.this_process() == here


@pytest.mark.parametrize(
    ("boot", "namespace", "machine", "running", "expected"),
    [
        (BOOT, NAMESPACE, MACHINE, True, True),
        (BOOT, NAMESPACE, MACHINE, False, False),
        (BOOT, "4026532999", MACHINE, False, True),  # in another container
        ("an0ther", NAMESPACE, MACHINE, True, False),  # before this machine was started again
        ("an0ther", "4026532999", MACHINE, False, False),
        ("an0ther", NAMESPACE, "an0ther", False, True),  # another machine of the same name
    ],
)
def test_boot_namespace_and_machine_decide(
    monkeypatch, boot, namespace, machine, running, expected
):
    monkeypatch.setattr(processes, "_here", lambda: (BOOT, NAMESPACE, MACHINE))
    monkeypatch.setattr(processes, "_started", lambda _: "77" if running else None)
    assert processes.alive(f"5@77@{boot}@{namespace}@{machine}") is expected
    worker = f"{processes.this_worker().rpartition('/')[0]}/5@77@{boot}@{namespace}@{machine}"
    assert processes.gone(worker) is not expected


def test_where_the_system_tells_no_boot_a_process_of_elsewhere_may_run(monkeypatch):
    here = processes.this_process()
    monkeypatch.setattr(processes, "PROC", processes.PROC / "none")
    assert processes._here() is None
    assert processes.alive(here)


@pytest.mark.parametrize("error", [PermissionError, ProcessLookupError, OverflowError])
def test_a_process_that_another_user_hides_runs(monkeypatch, tmp_path, error):
    """As on clusters, where /proc shows one's own alone (hidepid)."""
    here = processes.this_process()

    def kill(*_):
        raise error

    own = processes._here()
    monkeypatch.setattr(processes, "_here", lambda: own)
    monkeypatch.setattr(processes, "PROC", tmp_path)
    monkeypatch.setattr(os, "kill", kill)
    assert processes.alive(here) is (error is PermissionError)


def test_a_name_with_parentheses_and_spaces_does_not_move_the_fields(monkeypatch, tmp_path):
    fields = [str(number) for number in range(3, 53)]
    (tmp_path / "5").mkdir()
    (tmp_path / "5/stat").write_text(f"5 (a) b (c) {' '.join(['S', *fields[1:]])}")
    monkeypatch.setattr(processes, "PROC", tmp_path)
    assert processes._started(5) == "22"


def test_a_worker_of_another_host_is_not_known_to_be_gone():
    here = processes.this_worker()
    assert not processes.gone(here)
    host, _, process = here.rpartition("/")
    ended = changed(process, 1, "1")
    assert processes.gone(f"{host}/{ended}")
    assert not processes.gone(f"elsewhere/{ended}")
