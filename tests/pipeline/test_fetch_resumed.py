"""An interrupted `fetch` goes on where it was, and writes what an undisturbed one writes."""

import os
import subprocess

import psutil
import pytest
import yaml
from filelock import FileLock

from builders.fetched import fetch_section, small_fetch
from builders.pipeline import ROOT
from builders.processes import started, wait_until
from builders.standin import small_standin
from peculiar.core.errors import InputError
from peculiar.galaxies import sources
from peculiar.galaxies.standin.simulation import make_broadband
from peculiar.pipeline import fetch as stage
from peculiar.pipeline.fetch import fetch_galaxies

KEPT = ".raw.begun.partial"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Five files, and what an undisturbed run writes of them."""
    folder = tmp_path_factory.mktemp("made")
    for number in range(6):
        make_broadband(folder / f"broadband_{number}.fits", number, small_standin())
    return [path.read_bytes() for path in sorted(folder.iterdir())]


@pytest.fixture
def files(tmp_path, made):
    folder = tmp_path / "files"
    folder.mkdir()
    for number, content in enumerate(made[:5]):
        (folder / f"broadband_{number}.fits").write_bytes(content)
    return folder


@pytest.fixture
def raw(tmp_path):
    return tmp_path / "out" / "raw"


def undisturbed(params, tmp_path):
    """What a run writes that nothing interrupts."""
    fetch_galaxies(params, tmp_path / "undisturbed")
    return contents(tmp_path / "undisturbed")


def interrupt(params, raw, monkeypatch, after, error=KeyboardInterrupt):
    """Run until `after` galaxies were read."""
    count_reads(monkeypatch, after, error)
    with pytest.raises(error):
        fetch_galaxies(params, raw)
    monkeypatch.undo()


def count_reads(monkeypatch, most=99, error=KeyboardInterrupt):
    original, reads = sources.read_broadband, []

    def read(path, bands):
        if len(reads) == most:
            raise error("here")
        reads.append(path.name)
        return original(path, bands)

    monkeypatch.setattr(sources, "read_broadband", read)
    return reads


@pytest.mark.parametrize(
    ("after", "error"), [*((k, KeyboardInterrupt) for k in range(5)), (3, OSError), (3, InputError)]
)
def test_only_galaxies_of_incomplete_shards_are_read_again(
    tmp_path, files, raw, monkeypatch, after, error, capsys
):
    params = small_fetch("files", files)
    expected = undisturbed(params, tmp_path)
    interrupt(params, raw, monkeypatch, after, error)
    complete = after // 2 * 2
    # nothing where nothing is complete
    assert [path.name for path in raw.parent.iterdir()] == [KEPT] * bool(complete)
    reads = count_reads(monkeypatch)
    fetch_galaxies(params, raw)
    assert reads == [f"broadband_{number}.fits" for number in range(complete, 5)]
    assert contents(raw) == expected
    assert [path.name for path in raw.parent.iterdir()] == ["raw"]
    said = f"fetch: {complete} of 5 galaxies are there from an interrupted run\n"
    assert capsys.readouterr().out == said * bool(complete)


def test_twice_interrupted_and_an_old_output(tmp_path, files, raw, monkeypatch):
    fetch_galaxies(small_fetch("files", files, bands="r"), raw)
    old, params = contents(raw), small_fetch("files", files)
    for _ in range(2):
        interrupt(params, raw, monkeypatch, 2)
        assert contents(raw) == old
    reads = count_reads(monkeypatch)
    fetch_galaxies(params, raw)
    assert reads == ["broadband_4.fits"]
    assert contents(raw) == undisturbed(params, tmp_path)


def another_byte(files, _):
    """The same size and modification time."""
    path = files / "broadband_1.fits"
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b"stand-in", b"Illustri"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def another_last(files, made):
    (files / "broadband_3.fits").write_bytes(made[5])


def one_more(files, made):
    (files / "broadband_5.fits").write_bytes(made[5])


def one_less(files, _):
    for number in (3, 4):
        (files / f"broadband_{number}.fits").unlink()


@pytest.mark.parametrize(
    ("change", "kept"), [(another_byte, 0), (another_last, 2), (one_more, 4), (one_less, 2)]
)
def test_other_files_are_read(tmp_path, files, raw, monkeypatch, made, change, kept):
    params = small_fetch("files", files)
    interrupt(params, raw, monkeypatch, 4)
    change(files, made)
    reads = count_reads(monkeypatch)
    fetch_galaxies(params, raw)
    names = [f"broadband_{number}.fits" for number in range(len(list(files.iterdir())))]
    assert reads == names[kept:]
    assert contents(raw) == undisturbed(params, tmp_path)


def other_bands(files, _):
    return small_fetch("files", files, bands="gr")


def other_shards(files, _):
    return small_fetch("files", files).model_copy(update={"shard_galaxies": 3})


def other_masses(files, _):
    catalogue = files.parent / "list.txt"
    catalogue.write_text("000 1 11.25\n")
    return small_fetch("files", files, catalogue)


def other_code(files, monkeypatch):
    monkeypatch.setattr(stage, "imported_code_digest", lambda _: "other")
    return small_fetch("files", files)


def other_libraries(files, monkeypatch):
    monkeypatch.setattr(stage, "version", lambda _: "0")
    return small_fetch("files", files)


@pytest.mark.parametrize(
    "other", [other_bands, other_shards, other_masses, other_code, other_libraries]
)
def test_other_parameters_or_code_begin_again(tmp_path, files, raw, monkeypatch, other, capsys):
    interrupt(small_fetch("files", files), raw, monkeypatch, 4)
    params = other(files, monkeypatch)
    reads = count_reads(monkeypatch)
    fetch_galaxies(params, raw)
    assert len(reads) == 5
    assert contents(raw) == undisturbed(params, tmp_path)
    words = "raw: begun with other parameters or code: what was done is removed\n"
    assert capsys.readouterr().out.endswith(words)


def test_another_catalogue_of_the_same_name_begins_again(files, raw, monkeypatch):
    catalogue = files.parent / "list.txt"
    catalogue.write_text("000 1 11.25\n")
    params = small_fetch("files", files, catalogue)
    interrupt(params, raw, monkeypatch, 4)
    catalogue.write_text("000 1 11.75\n")
    fetch_galaxies(params, raw)
    assert b" 11.75 " in (raw / "table.ecsv").read_bytes()


@pytest.mark.parametrize("content", [b"", b"{}", b'{"files": [], "rows": 3}', b"\xff"])
@pytest.mark.parametrize(
    "name", ["rows-000.json", "images/images-000.npy", "rows-001.json", "images/images-001.npy"]
)
def test_what_is_damaged_is_made_again(tmp_path, files, raw, monkeypatch, name, content):
    params = small_fetch("files", files)
    interrupt(params, raw, monkeypatch, 4)
    (raw.parent / KEPT / name).write_bytes(content)
    reads = count_reads(monkeypatch)
    fetch_galaxies(params, raw)
    assert len(reads) == (5 if "000" in name else 3)
    assert contents(raw) == undisturbed(params, tmp_path)


@pytest.mark.parametrize("name", ["images-000.npy", "images-001.npy"])
def test_a_wrong_byte_is_found(tmp_path, files, raw, monkeypatch, name):
    params = small_fetch("files", files)
    interrupt(params, raw, monkeypatch, 4)
    path = raw.parent / KEPT / "images" / name
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    fetch_galaxies(params, raw)
    assert contents(raw) == undisturbed(params, tmp_path)


@pytest.mark.parametrize("damage", [os.remove, lambda path: path.write_bytes(b"\xff\xfe")])
def test_what_has_no_key_is_removed(files, raw, monkeypatch, damage):
    params = small_fetch("files", files)
    interrupt(params, raw, monkeypatch, 4)
    damage(raw.parent / KEPT / "key")
    reads = count_reads(monkeypatch)
    fetch_galaxies(params, raw)
    assert len(reads) == 5


def test_two_at_once_are_refused(files, raw):
    raw.parent.mkdir()
    with (
        FileLock(raw.parent / ".raw.lock.partial"),
        pytest.raises(InputError, match=r"another process writes .*raw: wait until it"),
    ):
        fetch_galaxies(small_fetch("files", files), raw)
    fetch_galaxies(small_fetch("files", files), raw)


def start(folder):
    return started(
        *("-m", "peculiar.pipeline.fetch"),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


@pytest.mark.slow
def test_killed_it_leaves_no_process_and_goes_on(tmp_path):
    shipped = yaml.safe_load((ROOT / "params.yaml").read_text())
    shipped["fetch"] = fetch_section(galaxies=60)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(shipped))
    kept = tmp_path / "data/.fetch.begun.partial"
    with start(tmp_path) as killed:
        wait_until((kept / "rows-001.json").exists, killed)
        children = psutil.Process(killed.pid).children(recursive=True)
        assert children
        killed.kill()
        wait_until(lambda: not any(alive(child) for child in children), seconds=30)
    assert not (tmp_path / "data/fetch").exists()
    with start(tmp_path) as done:
        printed, _ = done.communicate()
    assert done.returncode == 0
    assert "of 60 galaxies are there from an interrupted run" in printed
    assert contents(tmp_path / "data/fetch") == undisturbed(small_fetch(galaxies=60), tmp_path)


def alive(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
