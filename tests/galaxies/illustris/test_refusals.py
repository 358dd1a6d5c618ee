"""Files of Illustris that the reader refuses: by bad luck, for good, or all for one reason."""

import io
import json
import runpy

import pytest
from astropy.io import fits

from builders.illustris_server import KEY, Behaviour, Subhalo, broadband, contents, order, running
from builders.pipeline import ROOT
from peculiar.core.errors import InputError
from peculiar.galaxies.illustris import archive as store
from peculiar.galaxies.illustris import http
from peculiar.galaxies.params import IllustrisSection

CUBE = "CAMERA1-BROADBAND-NONSCATTER"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(http, "BACKOFF_S", 0.001)


@pytest.fixture
def server():
    with running(Behaviour([Subhalo(number) for number in range(1, 9)])) as server:
        yield server


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "store"


def fill(folder, server, bands="gri", **changes):
    section = IllustrisSection(**order(folder, server, **changes))
    return store.fill(section, tuple(bands), KEY)


def on_data(kind, *numbers, times=99):
    """A fault at the first requests of the images of some subhaloes."""
    paths = [f"/data/{number}" for number in numbers]
    return lambda path, n: kind if path in paths and n < times else ""


def names(folder):
    return sorted(path.name for path in folder.glob("*.fits"))


def skipped(folder):
    return json.loads((folder / "skipped.json").read_text())["skipped"]


def change(monkeypatch, edit, *numbers):
    """Have the server's files of these subhaloes changed by `edit(hdus)`; of all, without any."""

    def content(_, number):
        with fits.open(io.BytesIO(broadband(number))) as hdus:
            if number in numbers or not numbers:
                edit(hdus)
            changed = io.BytesIO()
            hdus.writeto(changed)
            return changed.getvalue()

    monkeypatch.setattr(Behaviour, "content", content)


def in_jansky(hdus):
    hdus[CUBE].header["IMUNIT"] = "Jy"


# one file


def test_a_file_that_is_bad_for_good_is_skipped_and_counted(folder, server, monkeypatch, capsys):
    change(monkeypatch, in_jansky, 5)
    filled = fill(folder, server)
    assert names(folder) == [f"broadband_{k}.fits" for k in (1, 2, 3, 4, 6, 7, 8)]
    assert not (folder / "partial").exists()
    assert len(server.paths("/data/5")) == 2
    assert filled.skipped == {5: "damaged"}
    reason = f"the file has IMUNIT 'Jy' in {CUBE}, not 'W/m/m^2/sr'"
    assert skipped(folder) == {"5": f"damaged: read in gri, {reason}"}
    out, err = capsys.readouterr()
    assert out == "fetched 7, already there 0, skipped 1 (1 damaged), failed 0\n"
    assert f"subhalo 5: {reason}\n" in err
    assert f"subhalo 5 skipped: damaged: read in gri, {reason}\n" in err


def test_it_is_asked_for_again_without_the_ledger_or_in_other_bands(folder, server, monkeypatch):
    with monkeypatch.context() as patch:
        change(patch, in_jansky, 5)
        fill(folder, server)
    assert fill(folder, server).skipped == {5: "damaged"}
    assert len(server.paths("/data/5")) == 2
    assert fill(folder, server, bands="gr").skipped == {}
    (folder / "broadband_5.fits").unlink()
    (folder / "skipped.json").unlink()
    assert fill(folder, server).skipped == {}


def test_a_missing_band_is_no_reason_in_other_bands(folder, server, monkeypatch):
    def without_i(hdus):
        hdus["FILTERS"].data["filter"][5] = "i_other.res"

    change(monkeypatch, without_i, 5)
    assert fill(folder, server, bands="i").skipped == {5: "damaged"}
    assert "has no filter i_SDSS.res" in skipped(folder)["5"]
    assert fill(folder, server, bands="g").skipped == {}


def test_the_same_garbage_twice_is_on_the_server(folder, server):
    server.behaviour.fault = on_data("garbage", 2)
    assert fill(folder, server, galaxies=3).skipped == {2: "damaged"}
    assert names(folder) == [f"broadband_{k}.fits" for k in (1, 3, 4)]
    assert len(server.paths("/data/2")) == 2


def test_other_garbage_each_time_is_on_the_way_and_no_reason_to_skip(folder, server, tmp_path):
    fill(tmp_path / "undisturbed", server)
    before = len(server.paths("/data/2"))
    server.behaviour.fault = on_data("noise", 2, times=before + 5)
    assert fill(folder, server).skipped == {}
    assert len(server.paths("/data/2")) == before + 6
    assert contents(folder) == contents(tmp_path / "undisturbed")


def test_other_garbage_in_all_attempts_is_a_failure(folder, server):
    server.behaviour.fault = on_data("noise", 2)
    with pytest.raises(InputError, match=r"1 of 8 .* \(2: the file has .*\): run the same command"):
        fill(folder, server, attempts=4)
    assert len(server.paths("/data/2")) == 4
    assert skipped(folder) == {}


def test_odd_numbers_of_one_subhalo_do_not_stop_the_others(folder, server, monkeypatch, capsys):
    details = Subhalo.details

    def odd(subhalo):
        answer = details(subhalo)
        return answer | {"primary_flag": "perhaps"} if subhalo.id == 4 else answer

    server.behaviour.filters_work = False
    monkeypatch.setattr(Subhalo, "details", odd)
    with pytest.raises(
        InputError, match=r"1 of 8 .* \(4: its properties have an unknown form \(Val"
    ):
        fill(folder, server)
    assert len(names(folder)) == 7
    assert "subhalo 4 failed: its properties have an unknown form" in capsys.readouterr().err


# all files


def of_another(hdus):
    hdus[0].header["SUBHALO"] = 99


REASONS = [
    (in_jansky, r"IMUNIT 'Jy' in CAMERA1-BROADBAND-NONSCATTER"),
    (of_another, "the file holds subhalo 99"),
    (lambda hdus: hdus.pop("FILTERS"), "the file has no FILTERS"),
]


@pytest.mark.parametrize(("edit", "reason"), REASONS)
@pytest.mark.parametrize("galaxies", [None, 1])
def test_one_reason_for_all_stops_after_the_first_batch(
    folder, server, monkeypatch, edit, reason, galaxies
):
    change(monkeypatch, edit)
    words = (
        rf"^fetch\.illustris: subhaloes 1, 2, 3 all failed for one reason \(damaged: .*{reason}.*"
        r"\), so no other was requested: correct "
    )
    with pytest.raises(InputError, match=words):
        fill(folder, server, galaxies=galaxies)
    assert [len(server.paths(f"/data/{k}")) for k in range(1, 6)] == [2, 2, 2, 0, 0]
    assert skipped(folder) == {}  # the files may be good ones
    monkeypatch.undo()
    assert len(fill(folder, server).paths) == 8


def test_a_server_that_is_out_of_order_is_not_asked_for_every_file(folder, server):
    server.behaviour.fault = lambda path, _: "503" * path.startswith("/data/")
    with pytest.raises(InputError, match=r"1, 2, 3 all failed for one reason \(HTTP 503\)"):
        fill(folder, server, attempts=2)
    assert len({*server.paths()} & {f"/data/{k}" for k in range(1, 9)}) == 3


def test_what_has_no_image_is_no_fault(folder, server, monkeypatch):
    server.behaviour.subhaloes[1] = Subhalo(2, image=False)
    change(monkeypatch, in_jansky)
    with pytest.raises(InputError, match="subhaloes 4, 5, 6 all failed for one reason"):
        fill(folder, server)
    assert skipped(folder) == {"2": "no image"}


def test_three_bad_files_do_not_stop_once_one_was_complete(folder, server, monkeypatch):
    change(monkeypatch, in_jansky, 2, 3, 4)
    assert fill(folder, server).skipped == dict.fromkeys((2, 3, 4), "damaged")
    for number in (1, 5, 6, 7, 8):
        (folder / f"broadband_{number}.fits").unlink()
    server.behaviour.subhaloes = server.behaviour.subhaloes[1:]
    filled = fill(folder, server)  # the first three are known now
    assert names(folder) == [path.name for path in filled.paths]
    assert len(filled.paths) == 4


def test_two_bad_files_and_no_other_leave_nothing(folder, server, monkeypatch):
    server.behaviour.subhaloes = server.behaviour.subhaloes[:2]
    change(monkeypatch, in_jansky)
    with pytest.raises(InputError, match=r"all are skipped \(2 damaged\): delete .*skipped.json"):
        fill(folder, server)
    assert skipped(folder) == {}


# paths


def test_a_folder_that_is_a_file_is_named(folder, server):
    folder.write_text("")
    for wrong in (folder, folder / "below"):
        with pytest.raises(
            InputError,
            match=r"^fetch\.illustris\.folder: .*store.* is not a folder, or is below a file: co",
        ):
            fill(wrong, server)


def test_a_catalogue_that_is_a_folder_is_named(folder, server, tmp_path):
    with pytest.raises(InputError, match="is not a catalogue of subhaloes: correct the path"):
        fill(folder, server, catalogue=tmp_path)


def test_the_benchmark_finds_what_it_imports():
    assert runpy.run_path(str(ROOT / "benchmarks/fetch_illustris.py"))["fill"] is store.fill
