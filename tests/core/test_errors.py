"""What the user sees: one sentence for what can be fixed, a traceback for our bugs."""

import errno
import subprocess
import sys

import pytest

from builders.processes import started
from peculiar.core.errors import InputError, one_sentence, redacted


def run(raising):
    """A process that raises inside `one_sentence`."""
    code = "import errno\nfrom peculiar.core.errors import *\nwith one_sentence():\n    " + raising
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


FIXABLE = [
    ("raise InputError('params.yaml: seed: add it')", "peculiar: params.yaml: seed: add it"),
    ("raise KeyboardInterrupt", "peculiar: interrupted; rerun the same command to resume"),
    (
        "raise OSError(errno.ENOSPC, 'No space left on device', 'data/x')",
        "peculiar: No space left on device at data/x: fix that and rerun the same command",
    ),
    (
        "raise OSError(errno.ENOSPC, 'No space left on device')",
        "peculiar: No space left on device: fix that and rerun the same command",
    ),
]


@pytest.mark.parametrize(("raising", "line"), FIXABLE)
def test_what_can_be_fixed_is_one_line_and_exit_code_1(raising, line):
    done = run(raising)
    assert (done.returncode, done.stderr, done.stdout) == (1, line + "\n", "")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
def test_a_full_or_closed_disk_can_be_fixed(number):
    with pytest.raises(SystemExit, match="peculiar: why at there: fix that"), one_sentence():
        raise OSError(number, "why", "there")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_too_many_open_files_say_how_to_have_more(number):
    with (
        pytest.raises(
            SystemExit, match="peculiar: why at there: raise the limit with `ulimit -n 1"
        ),
        one_sentence(),
    ):
        raise OSError(number, "why", "there")


def test_a_file_where_a_folder_is_meant_can_be_fixed(tmp_path):
    file = tmp_path / "file"
    file.touch()
    for wrong in (file.mkdir, (file / "below").mkdir, tmp_path.read_text):
        with pytest.raises(SystemExit, match=f" at {tmp_path}.*: fix that"), one_sentence():
            wrong()


def test_a_closed_pipe_ends_quietly():
    code = "from peculiar.core.errors import *\nwith one_sentence():\n    while True: print('line')"
    said = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with started("-c", code, **said) as run:
        assert run.stdout.readline() == "line\n"
        run.stdout.close()
        assert run.stderr.read() == ""
        assert run.wait(60) == 1


def test_other_errors_keep_their_traceback():
    done = run("1 / 0")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize(
    "error",
    [
        OSError("no number"),
        OSError(errno.ENOENT, "No such file", "a"),
        ValueError("a"),
        AssertionError(),
        MemoryError(),
        SystemExit(3),
    ],
    ids=repr,
)
def test_our_bugs_pass_through_unchanged(error):
    with pytest.raises(type(error)) as caught, one_sentence():
        raise error
    assert caught.value is error


def test_nothing_happens_where_nothing_fails(capsys):
    with one_sentence():
        pass
    assert capsys.readouterr() == ("", "")
    assert not issubclass(InputError, ValueError | OSError)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:S3cret@host:5000 fails", "http://me:***@host:5000 fails"),
        ("postgresql://me:a@b:c@host/x", "postgresql://me:***@host/x"),
        ("two: a://b:c@d and e://:f@g", "two: a://b:***@d and e://:***@g"),
        ("http://host:5000/a@b, me:you@there", "http://host:5000/a@b, me:you@there"),
        ("postgresql://me@host:5432/x", "postgresql://me@host:5432/x"),
    ],
)
def test_passwords_of_urls_are_not_shown(text, shown):
    assert redacted(text) == shown
    assert str(InputError(text)) == shown
    with pytest.raises(SystemExit) as stopped, one_sentence():
        raise InputError(text)
    assert stopped.value.code == f"peculiar: {shown}"
