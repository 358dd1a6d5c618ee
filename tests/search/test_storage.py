"""A journal whose last write was cut off, at any byte; a database that does not answer."""

from dataclasses import replace

import pytest
from optuna.trial import TrialState

from builders.ports import silent_server
from builders.studies import opened, plan, suggesting
from peculiar.core.errors import InputError
from peculiar.search import storage
from peculiar.search import study as studies

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def journal(tmp_path):
    """The journal of a study of three trials, and how to go on."""
    study, params = opened(tmp_path, sampler="random", trials=3)
    studies.run_trials(study, suggesting(params), 3)
    (path,) = tmp_path.rglob("*.journal")
    return path


@pytest.mark.parametrize("lost", [1, 2, 30])
def test_a_torn_last_line_is_cut_off_and_the_search_goes_on(tmp_path, journal, lost):
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-lost])
    for total in (4, 5):  # the second finds what the first has appended
        study, params = opened(tmp_path, sampler="random", trials=total)
        studies.requeue_dead(study, lambda _: True)
        studies.run_trials(study, suggesting(params), studies.left(study, params))
        assert len(studies.finished(study)) == total
    assert journal.read_bytes().startswith(whole[: whole[:-lost].rindex(b"\n") + 1])
    assert all(trial.state != TrialState.RUNNING for trial in study.trials)


def test_a_whole_journal_stays_as_it_is(journal):
    whole = journal.read_bytes()
    storage.mend_journal(journal)
    assert journal.read_bytes() == whole
    assert list(journal.parent.glob("*.lock")) == []


def test_a_journal_that_is_not_there_is_not_made(tmp_path):
    storage.mend_journal(tmp_path / "none.journal")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tail", [b"\0" * 9, b"x" * 3 * storage.TAIL_BYTES])
def test_a_torn_line_of_any_length_is_cut_off(journal, tail):
    """A power failure can leave zeros. Only the end of a long journal is read."""
    whole = journal.read_bytes()
    journal.write_bytes(whole + tail)
    storage.mend_journal(journal)
    assert journal.read_bytes() == whole
    journal.write_bytes(tail)
    storage.mend_journal(journal)
    assert journal.read_bytes() == b""


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (b'{"op_code": 1, \n', "line 2"),
        (b"\xff\xfe\n", "line 2"),
        (b"\n", "line 2"),
        (b"\0\0\0\n", "line 2"),
        (b"{}\n", "a line"),
        (b"[1]\n", "a line"),
        (b"1\n", "a line"),
        (b'{"op_code": 99, "worker_id": "x"}\n', "a line"),
    ],
)
def test_a_damaged_line_elsewhere_is_named(tmp_path, journal, line, name):
    first, *rest = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([first, line, *rest]))
    before = journal.read_bytes()
    with pytest.raises(InputError, match=rf"journal: {name} is damaged: restore the file, or move"):
        opened(tmp_path, sampler="random", trials=4)
    assert journal.read_bytes() == before


@pytest.mark.parametrize("line", [b'{"op_code": 1, \n', b"\0\n"])
def test_a_damaged_last_line_is_named_before_a_line_is_added(tmp_path, journal, line):
    """Optuna passes over it, appends, and cannot read the journal any more."""
    journal.write_bytes(journal.read_bytes() + line)
    number = journal.read_bytes().count(b"\n")
    with pytest.raises(InputError, match=rf"line {number} is damaged"):
        opened(tmp_path, sampler="random", trials=4)


@pytest.mark.parametrize("original", [False, True])
def test_a_lock_that_a_kill_left_before_the_folder_was_moved_is_removed(
    tmp_path, journal, original
):
    """Optuna waits for ever for it: it leads nowhere, or to the journal of another clone."""
    elsewhere = tmp_path / "elsewhere.journal"
    if original:
        elsewhere.touch()
    (lock := journal.with_name(journal.name + ".lock")).symlink_to(elsewhere)
    storage.mend_journal(journal)
    assert not lock.is_symlink()


def test_a_database_that_accepts_and_never_answers_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "CONNECT_S", 2)  # the least of psycopg
    with silent_server() as port:
        where = f"postgresql://me:secret@127.0.0.1:{port}/optuna"
        words = (
            rf"^params\.yaml: search\.storage: the database at 127\.0\.0\.1:{port}/optuna cannot"
        )
        with pytest.raises(InputError, match=words) as refusal:
            storage.open_study(replace(plan(tmp_path), storage=where))
    assert "secret" not in str(refusal.value)
    assert "\n" not in str(refusal.value)
