from concurrent.futures import CancelledError
from types import SimpleNamespace

import pytest
from distributed import KilledWorker, Scheduler, SpecCluster
from hypothesis import given
from hypothesis import strategies as st

from builders.ports import silent_server
from builders.tasks import later
from peculiar import parallel
from peculiar.core.errors import InputError
from peculiar.core.provenance import loaded_code
from peculiar.search import cluster


class Counting:
    """An executor that does a task when its result is wanted, and counts those that wait."""

    def __init__(self):
        self.sent = self.given = self.most = 0

    def submit(self, task, *arguments):
        self.sent += 1
        self.most = max(self.most, self.sent - self.given)
        return Promise(self, task, arguments)


class Promise:
    def __init__(self, of, task, arguments):
        self.of, self.task, self.arguments = of, task, arguments

    def result(self):
        self.of.given += 1
        return self.task(*self.arguments)

    def cancel(self):
        self.of.given += 1


@given(tasks=st.integers(0, 50), at_once=st.integers(1, 8))
def test_results_come_in_order_and_few_are_ahead(tasks, at_once):
    executor = Counting()
    found = list(
        parallel.in_order(
            parallel.Pool(executor.submit, at_once), lambda k: k * k, zip(range(tasks))
        )
    )
    assert found == [k * k for k in range(tasks)]
    assert executor.sent == executor.given == tasks
    assert executor.most <= parallel.AHEAD * at_once + 1


@given(tasks=st.integers(1, 20), bad=st.integers(0, 19))
def test_what_waits_is_given_up_when_one_fails(tasks, bad):
    def task(number):
        if number == bad:
            raise InputError("no")
        return number

    executor = Counting()
    found = parallel.in_order(parallel.Pool(executor.submit, 2), task, zip(range(tasks)))
    if bad < tasks:
        with pytest.raises(InputError, match="no"):
            list(found)
    else:
        assert list(found) == list(range(tasks))
    assert executor.sent == executor.given


@pytest.mark.parametrize("far", [False, True])
def test_processes_and_dask_s_workers_do_the_same(far, dask_scheduler):
    address = dask_scheduler if far else None
    arguments = [(number, 0.05 * (number % 3 == 0)) for number in range(12)]
    with parallel.pool(address) as pool:
        assert pool.at_once >= 1
        assert list(parallel.in_order(pool, later, arguments)) == list(range(12))


def test_an_error_on_a_worker_is_raised_here(dask_scheduler):
    def faulty(_):
        raise InputError("broadband_3.fits: truncated")

    with (
        parallel.pool(dask_scheduler) as pool,
        pytest.raises(InputError, match=r"broadband_3\.fits: truncated"),
    ):
        list(parallel.in_order(pool, faulty, [(1,)]))


def unreadable():
    return Unreadable()


class Unreadable:
    def __reduce__(self):
        return (int, ("no number",))


def test_a_result_that_cannot_be_read_here_is_an_error(dask_scheduler):
    with parallel.pool(dask_scheduler) as pool, pytest.raises(ValueError, match="no number"):
        list(parallel.in_order(pool, unreadable, [()]))


@pytest.mark.parametrize("lost", [CancelledError(), KilledWorker("task", None, 3)])
def test_lost_workers_are_one_sentence(lost, dask_scheduler):
    with (
        pytest.raises(InputError, match=r"KEY: tcp://.* lost its workers .*: read their logs"),
        parallel.pool(dask_scheduler, "KEY"),
    ):
        raise lost


def client_of(answers):
    """A client whose workers answer so."""
    scheduler = SimpleNamespace(address="tcp://headnode:8786")
    return SimpleNamespace(scheduler=scheduler, run=lambda *_, **__: answers)


@pytest.mark.parametrize("answer", ["old", AttributeError("no loaded_code")])
def test_workers_of_other_code_are_refused(answer):
    answers = {"tcp://a:1": loaded_code(), "tcp://b:1": answer}
    with pytest.raises(InputError, match="KEY: the worker tcp://b:1 has other code than this pro"):
        parallel.check_code(client_of(answers), "KEY")


def test_a_scheduler_without_workers_is_one_sentence():
    options = {"host": cluster.LOOPBACK, "port": 0} | cluster.QUIET
    with (
        SpecCluster(scheduler={"cls": Scheduler, "options": options}, workers={}) as lonely,
        pytest.raises(InputError, match=r"KEY: tcp://.* has no workers: start `dask worker tcp"),
        parallel.pool(lonely.scheduler_address, "KEY"),
    ):
        pass


@pytest.mark.parametrize("address", ["nothing://here", "tcp://127.0.0.1:9"])
def test_no_scheduler_is_one_sentence(address, monkeypatch):
    monkeypatch.setattr(parallel, "CONNECT_S", 1)
    with (
        pytest.raises(InputError, match=f"KEY: no Dask scheduler at {address} .*: start one"),
        parallel.pool(address, "KEY"),
    ):
        pass


@pytest.mark.parametrize("named", ["DASK_SCHEDULER_ADDRESS", "--scheduler"])
def test_a_scheduler_that_accepts_and_never_answers_is_one_sentence(named, monkeypatch):
    monkeypatch.setattr(parallel, "CONNECT_S", 0.5)
    with (
        silent_server() as port,
        pytest.raises(InputError, match=rf"^{named}: no Dask scheduler at .* \(no answer in 0.5 s"),
        parallel.pool(f"tcp://127.0.0.1:{port}", named),
    ):
        pass


def test_an_empty_variable_names_no_scheduler(monkeypatch):
    monkeypatch.setenv(parallel.SCHEDULER, "")
    assert parallel.scheduler() is None
