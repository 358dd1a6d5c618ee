"""Files and folders are written completely or not at all."""

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

import pytest

from builders.kills import killing
from peculiar.core import files
from peculiar.core.errors import InputError

IMPORTS = """
from pathlib import Path
from peculiar.core import files
"""
REPLACE_FOLDER = """
with files.replace_folder(Path("out")) as partial:
    (partial / "below").mkdir()
    for name in ("a", "below/b"):
        (partial / name).write_text("new")
"""
WITHOUT_EXCHANGE = "files._exchange = lambda one, other: False"
EXCHANGE_AND_TELL = """
exchange = files._exchange
def told(one, other):
    Path("told").touch()  # a step before and after the exchange
    done = exchange(one, other)
    Path("told").touch()
    return done
files._exchange = told
"""


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


OLD, NEW = {"a": "old", "c": "old"}, {"a": "new", "below/b": "new"}


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    for name, text in OLD.items():
        (folder / name).write_text(text)
    return folder


def test_the_digest_of_a_folder_is_of_names_and_contents(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a").write_bytes(b"1")
    first = files.files_sha256(tmp_path)
    (tmp_path / "beside").write_bytes(b"2")
    both = files.files_sha256(tmp_path)
    (tmp_path / "data/a").rename(tmp_path / "data/b")
    assert len({first, both, files.files_sha256(tmp_path)}) == 3


def test_a_folder_is_there_whole_at_every_kill(out):
    seen, was_killed = [], True
    with killing(IMPORTS + EXCHANGE_AND_TELL, REPLACE_FOLDER, out.parent) as killed:
        while was_killed:
            was_killed = killed(len(seen) + 1)
            seen.append(content(out))
            assert seen[-1] in (OLD, NEW), len(seen)
    assert seen == sorted(seen, key=[OLD, NEW].index)  # new from one step on
    assert seen.count(OLD) >= 6
    assert {path.name for path in out.parent.iterdir()} == {"out", "told"}


def test_without_an_exchange_the_next_call_puts_the_old_folder_back(out):
    step = missing = 0
    with killing(IMPORTS + WITHOUT_EXCHANGE, REPLACE_FOLDER, out.parent) as killed:
        while killed(step := step + 1):
            missing += not out.exists()
            with suppress(KeyError), files.replace_folder(out):
                assert content(out) in (OLD, NEW)
                raise KeyError
            assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert step >= 10
    assert missing == 1
    assert content(out) == NEW


def test_a_failed_block_leaves_the_old_folder(out):
    with suppress(KeyError), files.replace_folder(out) as partial:
        (partial / "a").write_text("new")
        raise KeyError
    assert content(out) == OLD
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_the_folder_behind_a_link_is_replaced_and_the_link_stays(out):
    link = out.with_name("link")
    link.symlink_to(out)
    with files.replace_folder(link) as partial:
        (partial / "a").write_text("new")
    assert link.is_symlink()
    assert content(out) == {"a": "new"}


def test_a_file_in_place_of_a_folder_is_left(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(NotADirectoryError, match="out"), files.replace_folder(tmp_path / "out"):
        pass
    assert content(tmp_path) == {"out": "mine"}


def test_all_is_on_the_disk_before_the_folder_takes_its_place(out, monkeypatch):
    """A power failure then leaves no folder of empty files."""
    synced, exchange = [], files._exchange
    fsync, names = os.fsync, {}

    def remember(number):
        synced.append(str(Path(f"/proc/self/fd/{number}").readlink()))
        fsync(number)

    def exchanged(one, other):
        names["before"] = list(synced)
        return exchange(one, other)

    monkeypatch.setattr(os, "fsync", remember)
    monkeypatch.setattr(files, "_exchange", exchanged)
    with files.replace_folder(out) as partial:
        (partial / "below").mkdir()
        (partial / "below/b").write_text("new")
    partial_names = [str(partial / name) for name in ("below", "below/b")]
    assert sorted(names["before"]) == sorted([str(partial), *partial_names])
    assert synced[-1] == str(out.parent)


@pytest.mark.parametrize(
    ("code", "refused"), [(errno.ENOSYS, False), (errno.EINVAL, False), (errno.EXDEV, True)]
)
def test_a_system_without_an_exchange_is_told_from_a_failure(out, monkeypatch, code, refused):
    monkeypatch.setattr(files.ctypes, "get_errno", lambda: code)
    if refused:
        with pytest.raises(OSError, match=os.strerror(code)):
            files._exchange(out, out.with_name("nowhere"))
    else:
        assert files._exchange(out, out.with_name("nowhere")) is False


def test_a_system_whose_library_has_no_exchange(out, monkeypatch):
    monkeypatch.setattr(files.ctypes, "CDLL", lambda *_, **__: object())
    with files.replace_folder(out) as partial:
        (partial / "a").write_text("new")
    assert content(out) == {"a": "new"}
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_one_at_a_time_writes_an_output_and_no_lock_stays(out):
    with files.alone(out), pytest.raises(InputError, match=r"another process writes .*out: wait "):
        files.alone(out).__enter__()
    with files.alone(out):
        pass
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_lock_that_was_opened_before_it_was_removed_keeps_nobody_out(out, monkeypatch):
    """Another process ends between our opening of its lock and our locking of it."""
    other, flock = files.alone(out), fcntl.flock
    other.__enter__()

    def ended_meanwhile(*arguments):
        monkeypatch.setattr(fcntl, "flock", flock)
        other.__exit__(None, None, None)
        return flock(*arguments)

    monkeypatch.setattr(fcntl, "flock", ended_meanwhile)
    with files.alone(out), pytest.raises(InputError, match="another process writes"):
        files.alone(out).__enter__()


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EIO])
def test_a_disk_that_fails_is_told_from_one_that_cannot_sync_folders(out, monkeypatch, code):
    def fail(_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    if code == errno.EINVAL:
        files.sync(out)
    else:
        with pytest.raises(OSError, match="Input/output error"):
            files.sync(out)


@pytest.mark.parametrize("leftover", [False, True])
def test_a_file_is_old_or_new_at_every_kill(tmp_path, leftover):
    path, step, was_killed = tmp_path / "a.json", 0, True
    write = 'files.write_atomically(Path("a.json"), b"new")'
    with killing(IMPORTS, write, tmp_path) as killed:
        while was_killed:
            path.write_text("old")
            if leftover:
                (tmp_path / ".a.json.partial").write_text("longer than the new content")
            was_killed = killed(step := step + 1)
            assert path.read_text() in ("old", "new")
    assert step >= 3
    assert content(tmp_path) == {"a.json": "new"}
