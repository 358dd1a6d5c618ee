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


@pytest.mark.parametrize("line", [b'{"op_code": 1, \n', b"\xff\xfe\n", b"\n"])
def test_a_damaged_line_elsewhere_is_named(tmp_path, journal, line):
    first, *rest = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([first, line, *rest]))
    with pytest.raises(InputError, match=r"journal: line 2 is damaged: restore the file, or move"):
        opened(tmp_path, sampler="random", trials=4)


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
