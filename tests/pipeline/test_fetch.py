import gzip
import hashlib
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml
from astropy.io import fits
from astropy.table import Table

from builders import nsa
from builders.fetched import fetch_section
from builders.illustris_server import KEY, Behaviour, Subhalo, order, running
from builders.pipeline import ROOT
from builders.standin import small_standin
from peculiar.core.dataset import RAW_COLUMNS, Shards, read_table
from peculiar.core.errors import InputError
from peculiar.core.files import alone
from peculiar.core.params import validate
from peculiar.galaxies.params import Fetch
from peculiar.galaxies.skirt import read_skirt
from peculiar.galaxies.sources import downloaded
from peculiar.galaxies.standin.simulation import make_broadband
from peculiar.galaxies.sunrise import read_broadband
from peculiar.pipeline.fetch import fetch_galaxies

SHARED = ROOT.parent / "shared" / "data"
TNG50, TNG100 = "tng50_snap095_broadband_117378", "tng100_snap099_broadband_6"


def params(source="standin", folder=".", catalogue=None, bands="ugriz", galaxies=5, **sections):
    """Section fetch as shipped, but small."""
    shipped = fetch_section(source, folder, catalogue, bands, galaxies)
    for name, changes in sections.items():
        shipped[name] |= changes
    return validate(Fetch, shipped, "fetch")


@pytest.fixture
def folder(tmp_path):
    files = tmp_path / "files"
    files.mkdir()
    for number in range(3):
        make_broadband(files / f"broadband_{number}.fits", number, small_standin())
    return files


def test_files_and_standins_go_through_the_same_reader(tmp_path, folder):
    fetch_galaxies(params("files", folder), tmp_path / "a")
    fetch_galaxies(params("standin", galaxies=3), tmp_path / "b")
    rows = np.arange(3)
    np.testing.assert_array_equal(Shards(tmp_path / "a")[rows], Shards(tmp_path / "b")[rows])
    one, other = (read_table(tmp_path / name, RAW_COLUMNS) for name in "ab")
    assert list(one["sha256"]) == list(other["sha256"])
    # stand-ins stay stand-ins, whatever folder they were read from
    assert one.meta["source"] == other.meta["source"] == "stand-in"


def test_genuine_illustris_files_are_called_so(tmp_path, folder):
    as_illustris(folder)
    fetch_galaxies(params("files", folder), tmp_path / "raw")
    table = read_table(tmp_path / "raw", RAW_COLUMNS)
    assert table.meta["source"] == "Illustris files"
    assert list(table["source"]) == [f"illustris:broadband_{k}.fits" for k in range(3)]


def as_illustris(folder):
    for path in folder.iterdir():
        with fits.open(path, mode="update", memmap=False) as hdus:
            del hdus[0].header["ORIGIN"]


def test_frames_that_are_all_as_the_paper_says_are_doubted_once(tmp_path, folder, capsys):
    as_illustris(folder)
    fetch_galaxies(params("files", folder), tmp_path / "raw")
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert warnings == [
        "warning: the files say that all frames of 3 galaxies are 84.4 kpc wide, but the public "
        "Illustris images are said to span ten stellar half-mass radii: compare them with "
        "`peculiar inspect` before you trust a distance"
    ]


def test_frames_of_different_widths_and_of_stand_ins_are_not_doubted(tmp_path, folder, capsys):
    fetch_galaxies(params("files", folder), tmp_path / "made_here")
    other = small_standin(field_of_view_radii=10.0)
    make_broadband(folder / "broadband_1.fits", 1, other)
    as_illustris(folder)
    fetch_galaxies(params("files", folder), tmp_path / "raw")
    assert "warning" not in capsys.readouterr().err


def test_a_galaxy_s_own_numbers_stay_with_it(tmp_path, folder):
    fetch_galaxies(params("files", folder, bands="gz"), tmp_path / "raw")
    table = read_table(tmp_path / "raw", RAW_COLUMNS)
    for row in range(3):
        path = folder / f"broadband_{row}.fits"
        header, filters = fits.getheader(path), fits.getdata(path, "FILTERS")
        assert table["log10_stellar_mass"][row] == header["LOGMSTAR"]
        assert table["half_mass_radius_kpc"][row].to_value("kpc") == header["HALFMASS"]
        np.testing.assert_array_equal(
            table["absolute_mag"][row].value, [header["ABSMAG_G"], header["ABSMAG_Z"]]
        )
        for camera in range(4):
            stated = filters[f"AB_mag_nonscatter{camera}"][[1, 4]]
            np.testing.assert_array_equal(table["mag_ab"][row, camera].value, stated)
    assert (table["centre_offset"].value == 0).all()
    assert np.isnan(table["cz_kms"].value).all()


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no genuine files at {SHARED}")
def test_genuine_skirt_files_become_frames_of_one_size(tmp_path):
    fetch_galaxies(
        params("skirt", bands="gri", skirt={"folder": str(SHARED / "tng"), "pixels": 128}),
        tmp_path / "raw",
    )
    shards, table = Shards(tmp_path / "raw"), read_table(tmp_path / "raw", RAW_COLUMNS)
    assert shards.shape == (3, 1, 3, 128, 128)
    assert table.meta["source"] == "TNG SKIRT"
    assert sorted(table["id"]) == [6, 99185, 117378]
    for row, name in enumerate(table["source"]):
        whole = read_skirt(SHARED / "tng" / name.removeprefix("skirt:"), "gri")
        odd = whole.images.shape[-1] % 2
        assert abs(table["centre_offset"][row].value).tolist() == [odd / 2] * 2
        if whole.images.shape[-1] <= 128:
            assert shards[np.array([row])].sum(dtype=float) == whole.images.sum(dtype=float)


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no genuine files at {SHARED}")
def test_genuine_nsa_files_bring_their_redshifts(tmp_path):
    section = {"folder": str(SHARED / "nsa_r"), "pixels": 128}
    fetch_galaxies(params("nsa", bands="r", nsa=section), tmp_path / "raw")
    shards, table = Shards(tmp_path / "raw"), read_table(tmp_path / "raw", RAW_COLUMNS)
    assert shards.shape == (24, 1, 1, 128, 128)
    assert table.meta["source"] == "NASA-Sloan Atlas"
    for row in table:
        header = fits.getheader(SHARED / "nsa_r" / row["source"].removeprefix("nsa:"))
        assert row["id"] == header["NSAID"]
        assert row["cz_kms"].to_value("km/s") == pytest.approx(299792.458 * header["Z"])
        assert row["cz_flow_kms"].to_value("km/s") == pytest.approx(299792.458 * header["ZDIST"])
        assert row["pixel_scale_arcsec"].to_value("arcsec") == header["PIXSCALE"]
    assert np.isnan(table["kpc_per_pixel"].value).all()


@pytest.fixture
def server():
    """A server like Illustris' with 6 galaxies: one is not primary, one has no images."""
    galaxies = [Subhalo(number) for number in (3, 5, 8, 13)]
    behaviour = Behaviour(
        [*galaxies, Subhalo(4, primary=False), Subhalo(9, image=False)],
        filters_work=False,
    )
    with running(behaviour) as server:
        yield server


def test_illustris_comes_over_its_api(tmp_path, server, monkeypatch):
    monkeypatch.setenv("ILLUSTRIS_API_KEY", KEY)
    section = order(tmp_path / "store", server)
    fetch_galaxies(params("illustris", bands="gri", illustris=section), tmp_path / "raw")
    shards, table = Shards(tmp_path / "raw"), read_table(tmp_path / "raw", RAW_COLUMNS)
    assert list(table["id"]) == [3, 5, 8, 13]
    assert table.meta["skipped"] == {"no image": 1, "not primary": 1}
    assert table.meta["source"] == "stand-in"  # its files say what they are
    np.testing.assert_allclose(table["log10_stellar_mass"], 10.5)
    np.testing.assert_allclose(table["half_mass_radius_kpc"].to_value("kpc"), 5.0)
    np.testing.assert_allclose(table["absolute_mag"][:, 1].to_value("mag"), -21)
    assert shards.shape == (4, 4, 3, 16, 16)
    # the folder is one that `files` reads, without the network
    fetch_galaxies(params("files", tmp_path / "store", bands="gri"), tmp_path / "again")
    np.testing.assert_array_equal(shards[np.arange(4)], Shards(tmp_path / "again")[np.arange(4)])


NOTHING_LEFT = [
    (
        {"log10_mass_min": 12.5},
        [],
        r"\(5 log10 mass below 12\.5, 1 not primary\): lower fetch\.illustris\.log10_m",
    ),
    (
        {},
        [9, 10, 4],
        r"\(2 no image, 1 not primary\): delete .*/store/skipped\.json to request them",
    ),
    ({}, [4], r"\(1 not primary\): set fetch\.illustris\.primary to false"),
    ({}, [], r"135 has no galaxy of log10 mass 10 or more: lower fetch\.illustris\.log10_mass_min"),
]


@pytest.mark.parametrize(("changes", "left", "words"), NOTHING_LEFT)
def test_illustris_without_a_galaxy_states_the_reason(
    tmp_path, server, monkeypatch, changes, left, words
):
    monkeypatch.setenv("ILLUSTRIS_API_KEY", KEY)
    if not changes:
        known = [*server.behaviour.subhaloes, Subhalo(10, image=False)]
        server.behaviour.subhaloes = [subhalo for subhalo in known if subhalo.id in left]
    section = order(tmp_path / "store", server, **changes)
    for _ in range(2):  # what was skipped is not asked for again, and still counts
        with pytest.raises(InputError, match=words):
            fetch_galaxies(params("illustris", illustris=section), tmp_path / "raw")


@pytest.mark.slow
@pytest.mark.parametrize("key", [KEY, "a-wrong-secret"])
def test_the_key_is_written_nowhere(tmp_path, server, key):
    """Not printed, and in no file of the stage, whether it is right or wrong."""
    shipped = yaml.safe_load((ROOT / "params.yaml").read_text())
    shipped["fetch"] |= {"source": "illustris", "illustris": order(tmp_path / "store", server)}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(shipped))
    done = subprocess.run(
        [sys.executable, "-m", "peculiar.pipeline.fetch"],
        cwd=tmp_path,
        env=os.environ | {"ILLUSTRIS_API_KEY": key},
        capture_output=True,
        text=True,
    )
    assert done.returncode == (0 if key == KEY else 1)
    if key != KEY:
        assert "does not accept the API key (HTTP 403)" in done.stderr
        assert not (tmp_path / "data/fetch").exists()
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) >= 2
    assert key not in done.stdout + done.stderr
    assert not any(key.encode() in path.read_bytes() for path in written)


@pytest.mark.parametrize("source", ["skirt", "nsa"])
def test_empty_folders_are_named(tmp_path, source):
    with pytest.raises(InputError, match=rf"fetch\.{source}\.folder: .* holds no \.fits file"):
        fetch_galaxies(params(source, **{source: {"folder": str(tmp_path)}}), tmp_path / "raw")


def test_an_nsa_catalogue_is_not_an_image(tmp_path):
    Table({"NSAID": [1]}).write(tmp_path / "nsa_v0_1_2.fits")
    section = {"folder": str(tmp_path), "catalogue": str(tmp_path / "nsa_v0_1_2.fits")}
    with pytest.raises(InputError, match=r"nsa_v0_1_2\.fits .*IAUNAME"):
        fetch_galaxies(params("nsa", nsa=section), tmp_path / "raw")


def test_files_without_their_dust_are_refused_by_name(tmp_path):
    """Shards do not say that it is removed, so that a prediction would remove it again."""
    files = tmp_path / "files"
    files.mkdir()
    for number in (1, 2):
        image = nsa.BOTH_SIGNS[number : number + 1]
        nsa.cutout(files / f"nsa_{number}.fits", image, NSAID=number, DUSTCORR=number == 2)
    section = params("nsa", bands="r", nsa={"folder": str(files), "pixels": 12})
    words = (
        r"^nsa:nsa_2\.fits has DUSTCORR = T, its dust is removed already, but fetch needs "
        r"images as measured: remove it from fetch\.nsa\.folder, and predict the file itself$"
    )
    with pytest.raises(InputError, match=words):
        fetch_galaxies(section, tmp_path / "out/raw")
    assert not (tmp_path / "out/raw").exists()
    (files / "nsa_2.fits").unlink()
    section = params("nsa", bands="r", nsa={"folder": str(files), "pixels": 12})
    fetch_galaxies(section, tmp_path / "out/raw")
    assert list(read_table(tmp_path / "out/raw", RAW_COLUMNS)["id"]) == [1]


def test_images_table_and_checksums_belong_together(tmp_path, folder):
    fetch_galaxies(params("files", folder, bands="gz"), tmp_path / "raw")
    shards, table = Shards(tmp_path / "raw"), read_table(tmp_path / "raw", RAW_COLUMNS)
    assert shards.shape == (3, 4, 2, 32, 32)
    assert table["kpc_per_pixel"].unit == "kpc"
    np.testing.assert_allclose(table["kpc_per_pixel"].value, 84.4 / 32)
    for row in range(3):
        image = shards[np.array([row])][0]
        galaxy = read_broadband(folder / f"broadband_{row}.fits", "gz")
        np.testing.assert_array_equal(image, galaxy.images)
        assert table["sha256"][row] == hashlib.sha256(image.tobytes()).hexdigest()
    assert list(table.meta["bands"]) == ["g", "z"]
    assert len(list((tmp_path / "raw").glob("*.npy"))) == 2


def test_catalogue_gives_the_masses(tmp_path, folder):
    catalogue = tmp_path / "list.txt"
    catalogue.write_text("000 1 11.25\n000 2 10.5\n")
    fetch_galaxies(params("files", folder, catalogue), tmp_path / "raw")
    masses = read_table(tmp_path / "raw", RAW_COLUMNS)["log10_stellar_mass"]
    assert masses[1] == 11.25
    assert masses[2] == 10.5
    assert masses[0] == read_broadband(folder / "broadband_0.fits", "r").log10_stellar_mass


def test_one_bad_file_leaves_nothing_and_is_named(tmp_path, folder):
    bad = folder / "broadband_1.fits"
    bad.write_bytes(bad.read_bytes()[:-5000])
    with pytest.raises(InputError, match=r"broadband_1\.fits"):
        fetch_galaxies(params("files", folder), tmp_path / "out/raw")
    assert list((tmp_path / "out").iterdir()) == []


def test_files_of_different_sizes_are_refused(tmp_path, folder):
    make_broadband(folder / "broadband_9.fits", 9, small_standin(pixels=48))
    with pytest.raises(InputError, match=r"broadband_9\.fits has images of shape .* one size"):
        fetch_galaxies(params("files", folder), tmp_path / "raw")


def test_two_files_of_one_number_are_refused_by_name(tmp_path, folder):
    make_broadband(folder / "other_1.fits", 1, small_standin(seed=99))
    words = (
        r"illustris:broadband_1\.fits has the same number 1 as illustris:other_1\.fits: keep one"
    )
    as_illustris(folder)
    with pytest.raises(InputError, match=words):
        fetch_galaxies(params("files", folder), tmp_path / "out/raw")
    assert not (tmp_path / "out/raw").exists()


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no genuine files at {SHARED}")
@pytest.mark.parametrize(
    ("source", "names"),
    [
        (
            "skirt",
            ("tng/tng50_snap095_broadband_117378.fits", "tng/tng100_snap099_broadband_6.fits"),
        ),
        ("nsa", ("nsa_r/nsa_047513.fits", "nsa_r/nsa_047513.fits")),
    ],
)
def test_two_genuine_files_of_one_number_are_refused_by_name(tmp_path, source, names):
    files = tmp_path / "files"
    files.mkdir()
    for k, name in enumerate(names):
        shutil.copy(SHARED / name, files / f"snap{k}_broadband_7.fits")
    section = {"folder": str(files), "pixels": 64}
    with pytest.raises(
        InputError, match=r":snap1_broadband_7\.fits has the same number \d+ as .*:snap0"
    ):
        fetch_galaxies(params(source, bands="r", **{source: section}), tmp_path / "raw")


def test_one_galaxy_under_two_numbers_is_refused(tmp_path, folder):
    shutil.copy(folder / "broadband_1.fits", folder / "broadband_9.fits")
    with fits.open(folder / "broadband_9.fits", mode="update", memmap=False) as hdus:
        hdus[0].header["SUBHALO"] = 9
    with pytest.raises(
        InputError, match=r"_9\.fits has the same images as stand-in:broadband_1\.f"
    ):
        fetch_galaxies(params("files", folder), tmp_path / "raw")


def test_names_of_files_end_as_people_write_them(tmp_path, folder):
    (folder / "broadband_0.fits").rename(folder / "broadband_0.FIT")
    content = gzip.compress((folder / "broadband_1.fits").read_bytes(), mtime=0)
    (folder / "broadband_1.fits.gz").write_bytes(content)
    (folder / "broadband_1.fits").unlink()
    (folder / "._broadband_2.fits").write_bytes(b"\0\5\26\7 of macOS")
    (folder / "notes.txt").write_text("mine")
    names = ["broadband_0.FIT", "broadband_2.fits", "broadband_1.fits.gz"]
    assert [path.name for path in downloaded("files", folder)] == names
    fetch_galaxies(params("files", folder), tmp_path / "raw")
    assert sorted(read_table(tmp_path / "raw", RAW_COLUMNS)["id"]) == [0, 1, 2]


def test_a_folder_is_found_from_where_dvc_runs_an_experiment(tmp_path, folder, monkeypatch):
    """DVC runs experiments in .dvc/tmp/exps of the repository, whose place it gives."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "repository").mkdir()
    assert params("files", "files").files.folder.resolve() == folder
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "repository"))
    monkeypatch.chdir(tmp_path / "repository")
    assert params("files", "../files").files.folder.resolve() == folder
    (tmp_path / "repository/.dvc/tmp/exps/run").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "repository/.dvc/tmp/exps/run")
    assert params("files", "../files").files.folder.resolve() == folder
    assert params("files", str(folder)).files.folder == folder
    missing = params(illustris={"folder": "downloads"}).illustris.folder
    assert missing == tmp_path / "repository/downloads"


def test_two_fetches_at_once_are_one_and_a_sentence(tmp_path):
    with (
        alone(tmp_path / "raw"),
        pytest.raises(InputError, match=r"another process writes .*raw: wait until it has ended"),
    ):
        fetch_galaxies(params(galaxies=1), tmp_path / "raw")
    fetch_galaxies(params(galaxies=1), tmp_path / "raw")
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_empty_folder_is_refused(tmp_path):
    words = r"fetch\.files\.folder: .* holds no \.fits file: put them there or correct"
    with pytest.raises(InputError, match=words):
        downloaded("files", tmp_path)


def test_more_neighbours_than_particles_are_one_sentence():
    with pytest.raises(InputError, match=r"fetch\.standin: neighbours must be fewer than the part"):
        params(standin={"neighbours": 100_000})


def test_dask_s_workers_make_the_same_galaxies(tmp_path, dask_scheduler, monkeypatch):
    fetch_galaxies(params(galaxies=5), tmp_path / "here")
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", dask_scheduler)
    fetch_galaxies(params(galaxies=5), tmp_path / "there")
    one, other = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("here", "there")
    )
    assert one == other


def test_a_scheduler_that_is_not_there_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "nothing://here")
    with pytest.raises(InputError, match="DASK_SCHEDULER_ADDRESS: no Dask scheduler at nothing:"):
        fetch_galaxies(params(), tmp_path / "raw")
    assert not list(tmp_path.iterdir())
