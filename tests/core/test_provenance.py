"""Digests of data and code, and the state of git."""

import hashlib
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from builders.pipeline import ROOT
from peculiar.core import provenance
from peculiar.core.errors import InputError
from peculiar.core.provenance import (
    code_digest,
    digest,
    digests,
    git_state,
    imported_code_digest,
)

LOCK = """
schema: '2.0'
stages:
  fetch:
    cmd: python -m peculiar.pipeline.fetch
    outs:
    - {path: data/fetch, hash: md5, md5: 0a1b.dir, size: 10, nfiles: 2}
  observe@uniform:
    cmd: python -m peculiar.pipeline.observe
    deps:
    - {path: data/fetch, hash: md5, md5: feed.dir}
    outs:
    - {path: data/observe/uniform, hash: md5, md5: 2c3d.dir}
  promote:
    cmd: python -m peculiar.pipeline.promote
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory that no repository lies above."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for name in [name for name in os.environ if name.startswith("GIT_") and "CEIL" not in name]:
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def within_dvc(monkeypatch):
    monkeypatch.setenv("DVC_STAGE", "train@uniform-cnn2")


@pytest.mark.usefixtures("within_dvc")
def test_within_dvc_the_digest_is_what_it_recorded_as_an_output(here):
    (here / "dvc.lock").write_text(LOCK)
    assert digest(Path("data/fetch")) == "0a1b.dir"
    assert digest(Path("data/observe/uniform")) == "2c3d.dir"


def test_outside_dvc_a_record_may_be_stale_and_is_not_trusted(here, monkeypatch):
    monkeypatch.delenv("DVC_STAGE", raising=False)
    (here / "dvc.lock").write_text(LOCK)
    (here / "data/fetch").mkdir(parents=True)
    assert digest(Path("data/fetch")).startswith("sha256:")


@pytest.mark.usefixtures("within_dvc")
@pytest.mark.parametrize("lock", [None, "", LOCK])
def test_without_a_record_the_digest_is_marked_as_ours(here, lock):
    if lock is not None:
        (here / "dvc.lock").write_text(lock)
    (here / "uniform").mkdir()
    assert re.fullmatch("sha256:[0-9a-f]{64}", digest(Path("uniform")))


def test_a_single_file_has_dvc_s_own_digest(here):
    (here / "best.yaml").write_text("best")
    assert digest(Path("best.yaml")) == hashlib.md5(b"best", usedforsecurity=False).hexdigest()


def test_without_a_record_every_file_of_a_folder_counts(here):
    folder = here / "data"
    (folder / "deep").mkdir(parents=True)
    (folder / "a").write_text("1")
    (folder / "deep" / "b").write_text("2")
    seen = [digest(folder), digest(folder)]
    (folder / "deep" / "b").write_text("3")
    seen.append(digest(folder))
    (folder / "a").rename(folder / "c")
    seen.append(digest(folder))
    (folder / "c").unlink()
    seen.append(digest(folder))
    assert seen[0] == seen[1]
    assert len(set(seen)) == 4


def test_the_digest_does_not_depend_on_where_the_folder_lies(here):
    for name in ("x", "y"):
        (here / name).mkdir()
        (here / name / "a").write_text("1")
    assert digest(here / "x") == digest(here / "y")


def test_digests_go_by_name(here):
    (here / "dvc.lock").write_text(LOCK)
    (here / "best.yaml").write_text("best")
    (here / "data/fetch").mkdir(parents=True, exist_ok=True)
    got = digests([Path("data/fetch"), Path("best.yaml")])
    assert got == {"data/fetch": digest(Path("data/fetch")), "best.yaml": digest(Path("best.yaml"))}


def test_code_digest_sees_text_and_names_of_modules_alone(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n")
    first = code_digest(tmp_path)
    (tmp_path / "notes.txt").write_text("more")
    assert code_digest(tmp_path) == first
    (tmp_path / "a.py").write_text("x = 2\n")
    second = code_digest(tmp_path)
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert len({first, second, code_digest(tmp_path)}) == 3


def test_code_digest_is_of_this_package():
    assert code_digest() == code_digest()
    assert len(code_digest()) == 64


def test_imported_code_is_followed_through_modules_functions_and_packages(tmp_path):
    files = {
        "ours/__init__.py": "",
        "ours/a.py": "import numpy\nfrom ours.room import b\n",
        "ours/room/__init__.py": "",
        "ours/room/b.py": "def f():\n    import ours.c as c\n",
        "ours/c.py": "from ours.a import x\n",
        "ours/d.py": "from ours import a\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    before = imported_code_digest("ours.a", tmp_path)
    changed = set()
    for name, text in files.items():
        (tmp_path / name).write_text(text + "# edited\n")
        if imported_code_digest("ours.a", tmp_path) != before:
            changed.add(name)
        (tmp_path / name).write_text(text)
    assert changed == files.keys() - {"ours/d.py"}
    assert imported_code_digest("ours.a", tmp_path) == before


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("cli/main.py", False),
        ("predict/batch.py", False),
        ("pipeline/figures.py", False),
        ("registry/models.py", False),
        ("networks/bodies.py", True),
        ("training/loop.py", True),
        ("search/objective.py", True),
        ("__init__.py", True),
    ],
)
def test_a_study_s_identity_is_the_code_that_a_trial_imports(tmp_path, name, changes):
    shutil.copytree(ROOT / "src", tmp_path / "src")
    before = imported_code_digest("peculiar.search.objective", tmp_path / "src")
    assert before == imported_code_digest("peculiar.search.objective")
    with (tmp_path / "src/peculiar" / name).open("a") as stream:
        stream.write("# edited\n")
    after = imported_code_digest("peculiar.search.objective", tmp_path / "src")
    assert (after != before) is changes


def test_what_is_missing_has_no_digest(tmp_path):
    with pytest.raises(InputError, match=r"data is missing: run `dvc repro` to make it"):
        digests([tmp_path / "data"], tmp_path)


def test_git_state_outside_a_repository_is_unknown(here):
    assert here.is_dir()
    assert git_state() == {"git_commit": "unknown", "git_dirty": "unknown"}


def test_git_state_without_git_is_unknown(here, monkeypatch):
    monkeypatch.setenv("PATH", str(here))
    assert git_state() == {"git_commit": "unknown", "git_dirty": "unknown"}


def test_git_state_tells_commit_and_changes_of_tracked_files(here):
    def git(*arguments):
        who = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false")
        done = subprocess.run(["git", *who, *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "--quiet")
    (here / "a").write_text("1")
    git("add", "a")
    git("commit", "--quiet", "--no-verify", "-m", "first")
    clean = {"git_commit": git("rev-parse", "HEAD"), "git_dirty": "false"}
    assert git_state() == clean
    (here / "dvc.lock").write_text("DVC rewrites it after every stage")
    assert git_state() == clean
    (here / "a").write_text("2")
    assert git_state() == clean | {"git_dirty": "true"}
    git("checkout", "--quiet", "a")
    assert git_state() == clean
    (here / "new.py").touch()
    assert git_state() == clean | {"git_dirty": "true"}


def test_a_user_without_a_name_has_a_number(monkeypatch):
    def nameless():
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(provenance.getpass, "getuser", nameless)
    assert provenance.who() == str(os.getuid())


@pytest.fixture
def settled(here, monkeypatch):
    """A folder whose files changed long ago, as far as the digest knows; and what it reads."""
    monkeypatch.delenv("DVC_STAGE", raising=False)
    monkeypatch.setattr(provenance, "SETTLED_S", -1)
    (here / "data/set").mkdir(parents=True)
    for name in ("a", "b"):
        (here / "data/set" / name).write_bytes(b"1234")
    read = []
    original = provenance._sha256_of
    monkeypatch.setattr(provenance, "_sha256_of", lambda files: read.append(1) or original(files))
    return Path("data/set"), read


def test_a_folder_that_did_not_change_is_read_once(settled):
    folder, read = settled
    assert len({digest(folder) for _ in range(3)}) == 1
    assert len(read) == 1


def other_byte(folder):
    (folder / "a").write_bytes(b"1235")


def other_byte_and_the_old_time(folder):
    before = (folder / "a").stat()
    other_byte(folder)
    os.utime(folder / "a", ns=(before.st_atime_ns, before.st_mtime_ns))


def other_file_of_the_old_time(folder):
    before, new = (folder / "a").stat(), folder.parent / "new"
    new.write_bytes(b"1235")
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.replace(folder / "a")


@pytest.mark.parametrize(
    "change",
    [
        *(other_byte, other_byte_and_the_old_time, other_file_of_the_old_time),
        lambda folder: (folder / "c").write_bytes(b""),
        lambda folder: (folder / "b").unlink(),
        lambda folder: (folder / "b").rename(folder / "c"),
    ],
)
def test_another_content_is_never_taken_for_the_old_one(settled, change):
    folder, read = settled
    before = digest(folder)
    time.sleep(0.02)  # more than a tick of the clock of file times, see SETTLED_S
    change(folder)
    after = digest(folder)
    assert after != before
    shutil.rmtree(".peculiar")
    assert digest(folder) == after
    assert len(read) == 3


def test_files_that_changed_a_moment_ago_are_read_again(settled, monkeypatch):
    folder, read = settled
    monkeypatch.setattr(provenance, "SETTLED_S", 60)
    for _ in range(2):
        digest(folder)
    assert len(read) == 2
    assert not Path(".peculiar").exists()


def test_a_folder_that_changes_while_it_is_read_is_refused(settled, monkeypatch):
    folder, _ = settled
    monkeypatch.setattr(provenance, "_sha256_of", lambda _: other_byte(folder))
    with pytest.raises(InputError, match="set was changed while it was read: run the same comm"):
        digest(folder)
