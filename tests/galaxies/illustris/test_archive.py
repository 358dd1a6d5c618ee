"""The store of downloaded galaxies: whatever happens on the way, it ends up the same."""

import contextlib
import errno
import hashlib
import json
import random
import signal
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from builders.illustris_server import (
    FAULTS,
    KEY,
    Behaviour,
    Subhalo,
    broadband,
    contents,
    faults,
    order,
    running,
)
from builders.processes import started
from peculiar.core.errors import InputError
from peculiar.core.files import write_atomically
from peculiar.galaxies.illustris import archive as store
from peculiar.galaxies.illustris import http
from peculiar.galaxies.params import IllustrisSection
from peculiar.galaxies.sunrise import read_broadband

SUBHALOES = [
    *(Subhalo(number, log10_mass=10 + number / 100) for number in range(1, 9)),
    Subhalo(20, image=False),
    Subhalo(21, primary=False),
    Subhalo(22, log10_mass=9.5),
]
SKIPPED = {20: "no image", 21: "not primary", 22: "log10 mass below 10"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(http, "BACKOFF_S", 0.001)


@pytest.fixture
def server():
    with running(Behaviour(list(SUBHALOES), filters_work=False)) as server:
        yield server


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "store"


def settings(folder, server, **changes):
    return IllustrisSection(**order(folder, server, **changes))


def fill(folder, server, bands="gri", key=KEY, **changes):
    return store.fill(settings(folder, server, **changes), tuple(bands), key)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The store as it has to be in the end."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with running(Behaviour(list(SUBHALOES), filters_work=False)) as server:
        fill(folder, server)
    return contents(folder)


def on_data(kind, times=1, number=None):
    """A fault at the first requests of the images of one subhalo, or of all."""
    prefix = "/data/" if number is None else f"/data/{number}"
    return lambda path, n: kind if path.startswith(prefix) and n < times else ""


def test_what_is_kept_is_what_was_sent_in_the_wanted_bands(server, folder, capsys):
    filled = fill(folder, server, bands="zg")
    assert [path.name for path in filled.paths] == [f"broadband_{k}.fits" for k in range(1, 9)]
    assert filled.skipped == SKIPPED
    assert capsys.readouterr().out == (
        "fetched 8, already there 0, skipped 3 (1 log10 mass below 10, 1 no image, 1 not primary),"
        " failed 0\n"
    )
    for number, path in enumerate(filled.paths, start=1):
        galaxy = read_broadband(path, "zg")
        images = np.random.default_rng(number).random((4, 5, 16, 16), dtype=np.float32)
        np.testing.assert_array_equal(galaxy.images, images[:, [4, 1]])
        np.testing.assert_allclose(galaxy.kpc_per_pixel, (50 + number) / 16)
        assert galaxy.source == f"stand-in:{path.name}"
        assert galaxy.id == number
        assert galaxy.log10_stellar_mass == pytest.approx(10 + number / 100)
        assert galaxy.half_mass_radius_kpc == pytest.approx(5)
        np.testing.assert_allclose(galaxy.absolute_mag, [-23, -20])
        assert np.isfinite(galaxy.mag_ab).all()


def test_a_kept_file_has_the_layout_and_nothing_else(server, folder):
    path = fill(folder, server).paths[0]
    with fits.open(path) as hdus:
        cameras = range(4)
        assert [hdu.name for hdu in hdus[1:]] == [
            "BROADBAND",
            *(f"CAMERA{k}-PARAMETERS" for k in cameras),
            "FILTERS",
            *(f"CAMERA{k}-BROADBAND-NONSCATTER" for k in cameras),
        ]
        assert len(hdus["FILTERS"].data) == 3
        assert hdus[0].header["ORIGIN"] == "peculiar stand-in"
        images = np.random.default_rng(1).random((4, 5, 16, 16), dtype=np.float32)[:, 1:4]
        checksum = hashlib.sha256(images.astype(">f4").tobytes()).hexdigest()
        assert hdus[0].header["SHA256"] == checksum
        assert hdus[0].header["PRIMARY"] is True
        assert "DATE" not in hdus[0].header
    assert len(path.read_bytes()) < len(broadband(1)) / 3


def test_the_store_holds_its_files_and_the_ledger_only(folder, server, undisturbed):
    fill(folder, server)
    assert contents(folder) == undisturbed
    assert sorted(undisturbed) == [*(f"broadband_{k}.fits" for k in range(1, 9)), "skipped.json"]
    assert not (folder / "partial").exists()
    assert not [name for name, content in undisturbed.items() if KEY.encode() in content]


def test_a_second_run_asks_for_the_list_alone(folder, server, undisturbed, capsys):
    fill(folder, server)
    before = len(server.requests)
    filled = fill(folder, server)
    assert len(server.requests) == before + 1
    assert len(filled.paths) == 8
    assert filled.skipped == SKIPPED
    assert "fetched 0, already there 8, skipped 3 (" in capsys.readouterr().out
    assert contents(folder) == undisturbed


def test_catalogue_and_pages_give_the_same(folder, server, tmp_path, undisturbed):
    catalogue = tmp_path / "catalogue.txt"
    catalogue.write_text("".join(f"000 {s.id} {s.log10_mass!r}\n" for s in reversed(SUBHALOES)))
    filled = fill(folder, server, catalogue=catalogue)
    assert server.paths("/subhalos/") == []
    assert {k: reason for k, reason in SKIPPED.items() if k != 22} == filled.skipped
    ours = contents(folder)
    assert {*ours} == {*undisturbed}
    for number in range(1, 9):
        name = f"broadband_{number}.fits"
        with fits.open(folder / name) as hdus:
            assert hdus[0].header["LOGMSTAR"] == 10 + number / 100
        assert ours[name][2880:] == undisturbed[name][2880:]


def test_the_mass_of_the_catalogue_wins(folder, server, tmp_path):
    catalogue = tmp_path / "catalogue.txt"
    catalogue.write_text("000 1 11.5\n000 2 9.75\n000 22 10.25\n")
    filled = fill(folder, server, catalogue=catalogue)
    masses = [read_broadband(path, "r").log10_stellar_mass for path in filled.paths]
    assert masses == [11.5, 10.25]


def test_a_subhalo_that_does_not_exist_is_skipped_but_asked_for_again(folder, server, tmp_path):
    catalogue = tmp_path / "catalogue.txt"
    catalogue.write_text("000 1 11.5\n000 77 10.25\n")
    assert fill(folder, server, catalogue=catalogue).skipped == {77: "no such subhalo"}
    server.behaviour.subhaloes.append(Subhalo(77))
    assert len(fill(folder, server, catalogue=catalogue).paths) == 2


@pytest.mark.parametrize("kind", ["", "503", "cut", "garbage"])
def test_a_number_of_galaxies_is_the_first_that_many_with_images(folder, server, kind):
    server.behaviour.subhaloes = [Subhalo(3, image=False), *SUBHALOES[3:], *SUBHALOES[:2]]
    server.behaviour.fault = on_data(kind)
    filled = fill(folder, server, galaxies=4)
    assert [path.stem for path in filled.paths] == [f"broadband_{k}" for k in (1, 2, 4, 5)]
    assert len(contents(folder)) == 5
    filled = fill(folder, server, galaxies=2)
    assert [path.stem for path in filled.paths] == ["broadband_1", "broadband_2"]
    assert len(fill(folder, server, galaxies=99).paths) == 7


def test_what_failed_does_not_change_the_choice(folder, server):
    server.behaviour.fault = on_data("503", times=99, number=2)
    with pytest.raises(InputError, match="1 of 3 subhaloes"):
        fill(folder, server, galaxies=3)
    assert sorted(contents(folder)) == ["broadband_1.fits", "broadband_3.fits", "skipped.json"]


def test_failures_are_counted_and_tried_again_by_the_next_run(folder, server, undisturbed, capsys):
    server.behaviour.fault = lambda path, _: "503" if path[-1] in "2345" and "data" in path else ""
    with pytest.raises(InputError) as failure:
        fill(folder, server, attempts=2)
    assert str(failure.value) == (
        f"{folder}: 4 of 11 subhaloes could not be downloaded (2: HTTP 503; 3: HTTP 503; "
        "4: HTTP 503; ...): run the same command again"
    )
    assert capsys.readouterr().out.endswith("failed 4\n")
    server.behaviour.fault = lambda *_: ""
    fill(folder, server)
    assert contents(folder) == undisturbed


# the ledger


def test_what_was_skipped_is_asked_for_again_when_the_reason_has_gone(folder, server):
    fill(folder, server)
    assert json.loads((folder / "skipped.json").read_text()) == {
        "snapshot": "Illustris-1/snapshots/135",
        "skipped": {str(number): reason for number, reason in SKIPPED.items()},
    }
    filled = fill(folder, server, primary=False, log10_mass_min=9.0)
    assert [path.stem for path in filled.paths][-2:] == ["broadband_21", "broadband_22"]
    assert filled.skipped == {20: "no image"}
    assert fill(folder, server).skipped == SKIPPED


@pytest.mark.parametrize(
    "content", ["", "[]", '{"snapshot": 1}', '{"snapshot": "x", "skipped": 1}']
)
def test_a_damaged_ledger_is_named(folder, server, content):
    folder.mkdir()
    (folder / "skipped.json").write_text(content)
    with pytest.raises(InputError, match=r"skipped\.json is damaged: delete it, and its subhaloes"):
        fill(folder, server)


def test_a_folder_holds_one_snapshot(folder, server):
    fill(folder, server)
    with pytest.raises(InputError, match=r"holds Illustris-1/snapshots/135: set another folder"):
        fill(folder, server, simulation="Illustris-2")


# files that are there


def test_a_file_without_a_wanted_band_is_fetched_again(folder, server, tmp_path):
    fill(folder, server, bands="gr")
    fill(folder, server, bands="ri")
    fill(tmp_path / "at once", server, bands="ri")
    assert contents(folder) == contents(tmp_path / "at once")
    before = len(server.paths("fits"))
    fill(folder, server, bands="i")
    assert len(server.paths("fits")) == before


def test_a_file_that_is_damaged_or_of_another_is_fetched_again(folder, server, undisturbed):
    fill(folder, server)
    (folder / "broadband_1.fits").write_bytes(b"nothing")
    (folder / "broadband_2.fits").write_bytes((folder / "broadband_3.fits").read_bytes())
    (folder / "broadband_4.fits").unlink()
    rotten = folder / "broadband_5.fits"
    rotten.write_bytes(rotten.read_bytes()[:-4000] + b"\x3f" + rotten.read_bytes()[-3999:])
    fill(folder, server)
    assert contents(folder) == undisturbed


def test_a_file_that_the_user_put_there_is_taken_as_it_is(folder, server):
    folder.mkdir()
    (folder / "broadband_3.fits").write_bytes(broadband(3))
    fill(folder, server)
    assert server.paths("/data/3") == []
    assert (folder / "broadband_3.fits").read_bytes() == broadband(3)


def test_a_file_kept_for_other_settings_is_not_taken(folder, server):
    fill(folder, server, primary=False, log10_mass_min=9.0)
    assert len(fill(folder, server, log10_mass_min=10.05).paths) == 4


# faults


@pytest.mark.parametrize("kind", FAULTS)
def test_every_fault_leaves_the_same_store(folder, server, undisturbed, kind):
    server.behaviour.fault = on_data(kind)
    fill(folder, server, timeout_s=0.5)
    assert server.faults[kind] == 8
    assert contents(folder) == undisturbed
    assert {path.name for path in folder.parent.iterdir()} == {"store"}


def test_without_ranges_too(folder, server, undisturbed):
    server.behaviour.ranges = False
    server.behaviour.fault = on_data("cut", times=2)
    fill(folder, server)
    assert contents(folder) == undisturbed


def test_damage_to_what_is_not_kept_does_no_harm(folder, server, undisturbed):
    server.behaviour.damaged_plane = 9
    server.behaviour.fault = on_data("garbage", times=99)
    fill(folder, server)
    assert contents(folder) == undisturbed


def test_a_wrong_key_stops_everything(folder, server, capfd):
    with pytest.raises(InputError, match="does not accept the API key"):
        fill(folder, server, key="wrong-key")
    assert "wrong-key" not in "".join(capfd.readouterr())


def test_a_key_refused_in_the_middle_stops_everything(folder, server, undisturbed):
    server.behaviour.fault = lambda path, _: "403" if path == "/data/4" else ""
    with pytest.raises(InputError, match=r"does not accept the API key \(HTTP 403\)"):
        fill(folder, server, connections=1)
    assert len(list(folder.glob("*.fits"))) == 3
    server.behaviour.fault = lambda *_: ""
    fill(folder, server)
    assert contents(folder) == undisturbed


def test_a_list_that_does_not_exist_or_cannot_be_had_is_named(folder, server):
    server.behaviour.fault = lambda *_: "404"
    with pytest.raises(InputError, match=r"/135/subhalos/ does not exist: correct fetch\."):
        fill(folder, server)
    server.behaviour.fault = lambda *_: "502"
    with pytest.raises(InputError, match=r"list of subhaloes at .* \(HTTP 502\): run the same com"):
        fill(folder, server, attempts=2)


def test_a_second_process_is_refused(folder, server):
    begun, ended = threading.Event(), threading.Event()

    def wait(path, _):
        if path.startswith("/data/"):
            begun.set()
            ended.wait(20)
        return ""

    server.behaviour.fault = wait
    first = threading.Thread(target=fill, args=(folder, server))
    first.start()
    assert begun.wait(20)
    with pytest.raises(InputError, match=r"another process is downloading into .*: wait until"):
        fill(folder, server)
    ended.set()
    first.join()
    assert len(list(folder.glob("*.fits"))) == 8


# a full disk


class Full:
    """A file on a disk that takes so many bytes more."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, content):
        self.file.write(content[: max(self.room[0], 0)])
        self.room[0] -= len(content)
        if self.room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)


@pytest.mark.parametrize("room", [0, 100, 5_000, 100_000, 210_000, 300_000, 700_000])
def test_a_full_disk_stops_and_the_next_run_goes_on(folder, server, undisturbed, monkeypatch, room):
    def narrow(path, mode="r", *args, **kwargs):
        file = path_open(path, mode, *args, **kwargs)
        return Full(file, left) if mode in ("ab", "wb") else file

    path_open, left = Path.open, [room]
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", narrow)
        with pytest.raises(OSError, match="No space left") as full:
            fill(folder, server, connections=1)
    assert full.value.errno == errno.ENOSPC
    assert full.value.filename == str(folder)
    for name, content in contents(folder).items():
        assert name.startswith("partial/") or name == "skipped.json" or content == undisturbed[name]
    fill(folder, server)
    assert contents(folder) == undisturbed


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full(small_disk, server, undisturbed):
    with pytest.raises(OSError, match="No space left") as full:
        fill(small_disk / "store", server, connections=1)
    assert full.value.errno == errno.ENOSPC
    kept = {name: c for name, c in contents(small_disk / "store").items() if name[0] == "b"}
    assert 0 < len(kept) < 8
    assert all(content == undisturbed[name] for name, content in kept.items())
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    fill(small_disk / "store", server)
    assert contents(small_disk / "store") == undisturbed


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    def broken(_):
        raise OSError(errno.EIO, "Input/output error")

    (tmp_path / "a").write_bytes(b"before")
    monkeypatch.setattr("os.fsync", broken)
    with pytest.raises(OSError, match="Input/output error"):
        write_atomically(tmp_path / "a", b"after")
    assert contents(tmp_path) == {"a": b"before"}


# other processes

PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a background job
import json, sys
from peculiar.core.errors import one_sentence
from peculiar.galaxies.illustris import http
from peculiar.galaxies.illustris.api import read_key
from peculiar.galaxies.illustris.archive import fill
from peculiar.galaxies.params import IllustrisSection
http.BACKOFF_S = 0.001
with one_sentence():
    fill(IllustrisSection(**json.loads(sys.argv[1])), ("g", "r", "i"), read_key())
"""


@pytest.fixture
def start(folder, server, monkeypatch):
    """Start `fill` in a process of its own."""
    monkeypatch.setenv("ILLUSTRIS_API_KEY", KEY)
    said = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with contextlib.ExitStack() as begun:

        def start():
            section = json.dumps(order(folder, server, timeout_s=0.5))
            return begun.enter_context(started("-c", PROGRAM, section, **said))

        yield start


@pytest.mark.slow
def test_the_key_is_nowhere(start, folder, server):
    server.behaviour.fault = faults(0.3)
    out, err = start().communicate(timeout=60)
    assert "fetched 8" in out
    assert "MB/s" in err
    server.behaviour.subhaloes.append(Subhalo(50))
    server.behaviour.fault = on_data("403", times=99)
    process = start()
    out, err = (a + b for a, b in zip(process.communicate(timeout=60), (out, err), strict=True))
    assert process.returncode == 1
    assert "peculiar: 127.0.0.1 does not accept the API key (HTTP 403): register" in out + err
    assert KEY not in out + err
    assert not [name for name, text in contents(folder).items() if KEY.encode() in text]


@pytest.mark.slow
def test_ctrl_c_ends_at_once_while_the_server_does_not_answer(start, server, folder, undisturbed):
    server.behaviour.retry_after = "600"
    server.behaviour.fault = lambda path, _: "429" if path >= "/data/4" and "data" in path else ""
    process = start()
    server.wait_for(lambda: server.faults["429"] >= 3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)  # the wait alone would be 600 s
    assert process.returncode == 1
    last = err.strip().splitlines()[-1]
    assert last == "peculiar: interrupted; rerun the same command to resume"
    assert "Traceback" not in err
    server.behaviour.fault = lambda *_: ""
    fill(folder, server)
    assert contents(folder) == undisturbed


@pytest.mark.slow
def test_sigkill_at_any_moment_leaves_what_the_next_run_goes_on_with(
    start, server, folder, undisturbed
):
    dice = random.Random(3)
    server.behaviour.delay_s = 0.005
    for _ in range(6):
        process = start()
        enough = server.sent + dice.randrange(1, 500_000)
        server.wait_for(
            lambda enough=enough, process=process: (
                server.sent >= enough or process.poll() is not None
            )
        )
        process.kill()
        process.communicate()
        for path in folder.glob("broadband_*.fits"):
            assert path.read_bytes() == undisturbed[path.name]
    fill(folder, server)
    left = {n: c for n, c in contents(folder).items() if not n.endswith(".partial")}
    assert left == undisturbed


@pytest.mark.slow
def test_sixty_galaxies_with_faults_of_every_kind_equal_the_undisturbed(tmp_path, capsys):
    subhaloes = [Subhalo(k, primary=k % 17 > 0, image=k % 13 > 0) for k in range(100, 160)]
    with running(Behaviour(subhaloes, filters_work=False)) as server:
        first = fill(tmp_path / "undisturbed", server)
        server.behaviour.fault = faults(0.15, seed=13)
        second = fill(tmp_path / "disturbed", server, timeout_s=0.5)
        assert {kind for kind in FAULTS if server.faults[kind]} == {*FAULTS}
        assert sum(server.faults[kind] for kind in FAULTS) > 30
    assert contents(tmp_path / "disturbed") == contents(tmp_path / "undisturbed")
    assert first.skipped == second.skipped
    one, other = capsys.readouterr().out.splitlines()
    assert one == other
