"""A journal whose last write was cut off, at any byte."""

import pytest
from optuna.trial import TrialState

from builders.studies import opened, suggesting
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
