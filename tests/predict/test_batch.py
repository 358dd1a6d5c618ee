"""Catalogues are predicted whole, whatever their rows hold and however often a run is killed."""

import gzip
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders import champions, nsa
from builders.kills import killing
from builders.pipeline import inside
from builders.standin import small_standin
from peculiar.cli.main import main
from peculiar.core.dataset import Observed
from peculiar.core.errors import InputError
from peculiar.core.files import alone
from peculiar.core.frames import convert_cz_kms
from peculiar.galaxies.nsa import read_catalogue, read_nsa
from peculiar.galaxies.standin.simulation import make_broadband
from peculiar.predict import batch
from peculiar.predict.catalogue import Row
from peculiar.predict.images import Dataset, Files
from peculiar.predict.priors import default_prior
from peculiar.predict.rows import Job, predict_rows
from peculiar.registry.champion import load_champion

pytestmark = pytest.mark.xdist_group("pipeline")
GOOD = "broadband_3.fits,5250,30,70,{camera}"


@pytest.fixture(scope="module")
def galaxies(tmp_path_factory):
    """A folder, with a space in its name, of one good file and what can be wrong with one."""
    folder = tmp_path_factory.mktemp("some galaxies")
    good = folder / "broadband_3.fits"
    make_broadband(good, 3, small_standin())
    whole = good.read_bytes()
    (folder / "zipped.fits.gz").write_bytes(gzip.compress(whole)[:-500])
    (folder / "random.fits").write_bytes(np.random.default_rng(1).bytes(9000))
    (folder / "mangled.fits").write_bytes(b"SIMPLE" + whole[6:400] + os.urandom(20000))
    (folder / "cut.fits").write_bytes(whole[:-2880])
    (folder / "empty.fits").write_bytes(b"")
    shutil.copy(good, folder / "with a space_4.fits")
    shutil.copy(good, folder / "nan_5.fits")
    with fits.open(folder / "nan_5.fits", mode="update") as hdus:
        hdus["CAMERA0-BROADBAND-NONSCATTER"].data[:, 0, :2] = np.nan, np.inf
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def job_of(champion, source, **changes):
    values = {
        "model": champion.model,
        "version": champion.version,
        "digest": champion.digest,
        "source": source,
        "at_mpc": np.nan,
        "pictures": None,
        "prior": default_prior(champion),  # as the command line has it
    }
    return Job(**(values | changes))


@pytest.fixture(scope="module")
def champion(pipeline):
    with inside(pipeline):
        return load_champion("peculiar-velocity")


@pytest.fixture(scope="module")
def untrained():
    """A champion of no training; its distances depend on the brightness."""
    return champions.mean_champion(
        network=champions.brightness_distribution,
        grid_mpc=champions.GRID,
        pixels=32,
        pixel_scale_arcsec=5.44,
    )


def test_an_observed_set_is_predicted_as_evaluate_does(pipeline, champion, tmp_path):
    folder = pipeline / "data/observe/uniform"
    output = tmp_path / "out.fits"
    assert (
        batch.predict_catalogue(
            champion, job_of(champion, Dataset(folder)), folder, output, rows_at_once=50
        )
        == 320
    )
    table, observed = QTable.read(output), Observed.read(folder)
    assert table.meta["FRAME"] == "cmb"
    assert table.meta["LAW"].endswith("of simulated galaxies hubble")
    assert set(table["frame"]) == {"cmb"}
    known = QTable.read(
        pipeline / "results/evaluate/predictions/uniform-cnn2.csv", format="ascii.csv"
    )
    rows = observed.rows("test")
    np.testing.assert_allclose(table["D_p"].to_value("Mpc")[rows], known["D_p_mpc"], rtol=1e-4)
    np.testing.assert_allclose(table["v_p"].to_value("km/s")[rows], known["v_p_kms"], atol=0.1)
    assert table["name"].tolist() == [str(k) for k in observed.table["galaxy"]]
    assert (table["flags"] == "ok").mean() > 0.5
    assert table.meta["DIGEST"] == champion.digest
    assert names(tmp_path) == ["out.fits"]
    with pytest.raises(InputError, match=r"has no galaxy 9999 with camera 0"):
        Dataset(folder).galaxy(Row(0, "9999"), champion)


FAULTS = [
    ("gone.fits,5000,30,70,0", "unusable", "missing"),
    ("random.fits,5000,30,70,0", "unusable", "is not a FITS file"),
    ("mangled.fits,5000,30,70,0", "unusable", ""),
    ("cut.fits,5000,30,70,0", "unusable", "is truncated"),
    ("empty.fits,5000,30,70,0", "unusable", ""),
    ("zipped.fits.gz,5000,30,70,0", "unusable", "not a complete FITS file"),
    ("nan_5.fits,5000,30,70,0", "nan_pixels", "2 pixels that are not finite"),
    (".,5000,30,70,0", "unusable", "missing"),
    (",5000,30,70,0", "unusable", "names no image"),
    ('"\x00,",5000,30,70,0', "unusable", ""),
    ("broadband_3.fits,5000,30,70,7", "unusable", "has cameras 0 to 3, not 7"),
    ("broadband_3.fits,5000,30,70,x", "unusable", "its camera 'x' cannot be used"),
    ("broadband_3.fits,5000,30,70,1e300", "unusable", "its camera '1e300' cannot be used"),
    ("broadband_3.fits,5000,30,70,4e9", "unusable", "its camera '4e9' cannot be used"),
    ("broadband_3.fits,5000,30,70,-1", "unusable", "its camera '-1' cannot be used"),
    ("broadband_3.fits,5000,30,70,1.5", "unusable", "its camera '1.5' cannot be used"),
    (
        "broadband_3.fits,5000,30,,0",
        "unusable",
        "simulated galaxy: give the distance to place it at",
    ),
    ("broadband_3.fits,5000,30,70,", "unusable", "it has no camera (write 0 for the first)"),
    ("broadband_3.fits,5000", "bad_row", "the row cannot be read; line "),
    ("broadband_3.fits,5000,30,-3,0", "bad_distance", "its distance_mpc '-3' cannot be used"),
    ("broadband_3.fits,5000,30,inf,0", "bad_distance", "its distance_mpc 'inf'"),
    ("broadband_3.fits,5000,30,1e12,0", "unusable", "is smaller than a pixel"),
]
WITHOUT_VELOCITY = [
    ("broadband_3.fits,,30,70,0", "no_cz", "it has no cz_kms"),
    ("broadband_3.fits,fast,30,70,0", "bad_cz", "its cz_kms 'fast' cannot be used"),
    ("broadband_3.fits,300000,30,70,0", "bad_cz", "its cz_kms '300000'"),
    ("broadband_3.fits,5000,-1,70,0", "bad_cz", "its cz_error_kms '-1'"),
    ("broadband_3.fits,5000,,70,0", "bad_cz", "it has no cz_error_kms (write 0 for none)"),
]


def test_bad_rows_state_the_reason_and_do_not_change_good_ones(champion, galaxies, tmp_path):
    bad = [*FAULTS, *WITHOUT_VELOCITY]
    lines = ["path,cz_kms,cz_error_kms,distance_mpc,camera", GOOD.format(camera=0)]
    lines += [line for line, _, _ in bad]
    lines += [GOOD.format(camera=3), "with a space_4.fits,-200,0,70,1"]
    text = "\n".join([*lines, "\x85\xff\x00,,", ""])
    given = tmp_path / "a catalogue.csv"
    given.write_text(text, encoding="latin-1")
    job = job_of(champion, Files(galaxies))
    batch.predict_catalogue(champion, job, given, tmp_path / "out.parquet", rows_at_once=5)
    table = QTable.read(tmp_path / "out.parquet")
    assert len(table) == len(bad) + 4
    D_p, v_hat = table["D_p"].value, table["v_hat"].value
    for k, (line, flag, reason) in enumerate(bad, start=1):
        assert flag in table["flags"][k], line
        assert reason in table["reason"][k], line
        assert table["reason"][k], line
        assert "\n" not in table["reason"][k]
        assert np.isnan(v_hat[k]), line
        assert np.isfinite(D_p[k]) == (k > len(FAULTS)), line
    good = [0, len(bad) + 1, len(bad) + 2]
    assert np.isfinite(v_hat[good]).all()
    assert not any(table["reason"][good])
    given.write_text("\n".join([lines[0], lines[1], *lines[-2:]]))
    batch.predict_catalogue(champion, job, given, tmp_path / "alone.parquet")
    alone = QTable.read(tmp_path / "alone.parquet")
    np.testing.assert_allclose(alone["v_hat"].value, v_hat[good], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(alone["D_p"].value, D_p[good], rtol=1e-5)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=400), ending=st.sampled_from([".fits", ".fits.gz"]))
def test_random_images_are_bad_rows(champion, tmp_path, content, ending):
    path = tmp_path / f"x{ending}"
    path.write_bytes(content)
    rows = [Row(0, path.name, 0, 5000.0)]
    table = predict_rows(champion, job_of(champion, Files(tmp_path)), rows).to_pydict()
    assert table["flags"] == ["unusable"]
    assert table["reason"][0].count("\n") == 0 < len(table["reason"][0])


def test_redshifts_of_real_galaxies_are_converted_or_flagged(champion, tmp_path):
    path = nsa.parent(tmp_path / f"{nsa.SOUTH}-parent-40.fits.gz")
    atlas = nsa.write_catalogue(tmp_path / "nsa_v0_1_2.fits")
    job = job_of(champion, Files(tmp_path, atlas=atlas), frame="cmb", cosmology="hubble")
    rows = [
        Row(0, path.name, 0, 5000.0),  # as the run says
        Row(1, path.name, 0, 5000.0, frame="heliocentric"),  # with the file's position
        Row(2, path.name, 0, 5000.0, frame="lg", ra_deg=168.0, dec_deg=-7.0),
    ]
    table = predict_rows(champion, job, rows).to_pydict()
    at = read_nsa(path, "r", read_catalogue(atlas))
    expected = [
        5000,
        convert_cz_kms(5000, at.ra_deg, at.dec_deg, "heliocentric", "cmb"),
        convert_cz_kms(5000, 168, -7, "lg", "cmb"),
    ]
    assert np.abs(np.diff(expected)).min() > 30
    np.testing.assert_allclose(table["D_z"], np.array(expected) / champion.H0_kms_mpc)
    np.testing.assert_allclose(table["cz"], expected)
    assert table["cz_error"] == [0, 0, 0]
    np.testing.assert_allclose(table["ra"], [at.ra_deg, at.ra_deg, 168])
    np.testing.assert_allclose(table["dec"], [at.dec_deg, at.dec_deg, -7])
    assert table["frame"] == ["cmb"] * 3
    assert not any("frame" in flags.split(", ") for flags in table["flags"])
    unknown = predict_rows(champion, replace(job, frame="unknown"), rows).to_pydict()
    assert unknown["frame"] == ["unknown", "cmb", "cmb"]
    assert unknown["flags"][0].split(", ").count("frame") == 1
    assert "taken as it is: give its cz_frame, and ra and dec" in unknown["reason"][0]
    assert unknown["D_z"] == table["D_z"]
    assert unknown["cz"] == table["cz"]


def test_a_redshift_beyond_a_champion_s_grid_leaves_the_distance(untrained, tmp_path):
    make_broadband(tmp_path / "broadband_3.fits", 3, small_standin())
    rows = [Row(k, "broadband_3.fits", 0, cz, 20.0, 70.0) for k, cz in enumerate([5000, 20000])]
    job = job_of(untrained, Files(tmp_path), pictures=tmp_path)
    table = predict_rows(untrained, job, rows).to_pydict()
    assert "cz_beyond" not in table["flags"][0]
    assert "cz_beyond" in table["flags"][1]
    assert table["reason"] == ["", "cz 20000 km/s is beyond the champion's distances"]
    assert np.isfinite(table["v_hat"]).tolist() == [True, False]
    assert table["cz"] == [5000, 20000]
    assert np.isnan([*table["ra"], *table["dec"]]).all()
    assert np.isfinite(table["D_p"]).all()
    for name in ("000000-broadband_3.fits.png", "000001-broadband_3.fits.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def write_catalogue(path, rows):
    lines = [f"broadband_3.fits,{4000 + k},30,{50 + k % 50},{k % 4}" for k in range(rows)]
    path.write_text("\n".join(["path,cz_kms,cz_error_kms,distance_mpc,camera", *lines]))


IMPORTS = """
from functools import partial
import mlflow.store.model_registry.sqlalchemy_store
import mlflow.store.tracking.sqlalchemy_store
from peculiar.cli.main import main
from peculiar.predict import batch
from peculiar.registry import champion
batch.predict_catalogue = partial(batch.predict_catalogue, rows_at_once=20)
"""


@pytest.mark.slow
def test_killed_three_times_and_continued(pipeline, champion, galaxies, tmp_path):
    given, output = galaxies / "many.csv", tmp_path / "killed.ecsv"
    write_catalogue(given, 200)  # ten parts
    job = job_of(champion, Files(galaxies))
    parts = tmp_path / ".killed.ecsv.parts"
    code = f'main(["predict", {str(given)!r}, "--output", {str(output)!r}])'
    with killing(IMPORTS, code, pipeline, ("os.rename",)) as killed:
        for _ in range(3):
            assert killed(3)  # each renames two files; the first one tells what the parts are of
            assert not output.exists()
    kept = list(parts.glob("0*.parquet"))
    assert len(kept) == 5
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        predict_rows = batch.predict_rows
        patch.setattr(
            batch,
            "predict_rows",
            lambda c, j, rows: seen.append(rows[0].number) or predict_rows(c, j, rows),
        )
        batch.predict_catalogue(champion, job, given, output, rows_at_once=20)
    assert len(seen) == 10 - len(kept)
    undisturbed = tmp_path / "undisturbed.ecsv"
    batch.predict_catalogue(champion, job, given, undisturbed)
    assert output.read_bytes() == undisturbed.read_bytes()
    assert names(tmp_path) == ["killed.ecsv", "undisturbed.ecsv"]


def test_parts_of_another_run_are_thrown_away(champion, galaxies, tmp_path, monkeypatch):
    given, output = tmp_path / "few.csv", tmp_path / "out.csv"
    write_catalogue(given, 12)
    job = job_of(champion, Files(galaxies))
    with monkeypatch.context() as patch:
        patch.setattr(batch, "assemble", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            batch.predict_catalogue(champion, job, given, output, rows_at_once=5)
    assert len(list((tmp_path / ".out.csv.parts").glob("0*.parquet"))) == 3
    write_catalogue(given, 4)
    assert batch.predict_catalogue(champion, job, given, output, rows_at_once=5) == 4


def stopped_after(parts, monkeypatch):
    """A run that is interrupted after some parts."""
    predict_rows, done = batch.predict_rows, []

    def predicted(*about):
        if len(done) == parts:
            raise KeyboardInterrupt
        done.append(about)
        return predict_rows(*about)

    monkeypatch.setattr(batch, "predict_rows", predicted)


def replaced(image, other, same_times):
    """Put another image in place of one, of the same size."""
    times = image.stat()
    assert times.st_size == other.stat().st_size
    shutil.copy(other, image)
    if same_times:
        os.utime(image, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.fixture
def three_images(galaxies, tmp_path):
    """A folder of three images, a catalogue of them, and another image of the same size."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in (1, 2, 3):
        shutil.copy(galaxies / "broadband_3.fits", folder / f"broadband_{number}.fits")
    other = tmp_path / "other.fits"
    make_broadband(other, 8, small_standin())
    lines = [f"{number},5250,30,70" for number in (1, 2, 3)]
    catalogue = tmp_path / "three.csv"
    catalogue.write_text("\n".join(["id,cz_kms,cz_error_kms,distance_mpc", *lines]))
    return catalogue, folder, other


@pytest.mark.parametrize("same_times", [False, True])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_catalogue_continued_has_the_images_of_now(
    untrained, three_images, tmp_path, monkeypatch, number, same_times
):
    """The image of row 1, 2 or 3 is replaced after rows 1 and 2 were predicted."""
    catalogue, folder, other = three_images
    job, output = job_of(untrained, Files(folder, by_id=True)), tmp_path / "out.csv"
    with monkeypatch.context() as patch:
        stopped_after(2, patch)
        with pytest.raises(KeyboardInterrupt):
            batch.predict_catalogue(untrained, job, catalogue, output, rows_at_once=1)
    replaced(folder / f"broadband_{number}.fits", other, same_times)
    with monkeypatch.context() as patch:
        stopped_after(2 if number < 3 else 1, patch)  # the third row, and the one that changed
        batch.predict_catalogue(untrained, job, catalogue, output, rows_at_once=1)
    undisturbed = tmp_path / "undisturbed.csv"
    batch.predict_catalogue(untrained, job, catalogue, undisturbed, rows_at_once=1)
    assert output.read_bytes() == undisturbed.read_bytes()
    D_p = QTable.read(output, format="ascii.ecsv")["D_p"].value
    assert len({*D_p.tolist()}) == 2
    assert (D_p != D_p[number % 3]).tolist() == [k + 1 == number for k in range(3)]


def test_images_that_change_within_a_run_are_read_again_or_refused(
    untrained, three_images, tmp_path, monkeypatch
):
    catalogue, folder, _ = three_images
    job, output = job_of(untrained, Files(folder, by_id=True)), tmp_path / "out.csv"
    predict_rows, times = batch.predict_rows, []

    def predicted(*about):
        table = predict_rows(*about)
        if len(times) < most:
            times.append(1)
            (folder / "broadband_1.fits").touch()
        return table

    monkeypatch.setattr(batch, "predict_rows", predicted)
    most = 1
    assert batch.predict_catalogue(untrained, job, catalogue, output) == 3
    output.unlink()
    most = 99
    with pytest.raises(InputError, match=r"the images of .*three\.csv change while they are pr"):
        batch.predict_catalogue(untrained, job, catalogue, output)
    assert not output.exists()


def test_a_catalogue_that_changes_within_a_run_is_refused(
    untrained, three_images, tmp_path, monkeypatch
):
    catalogue, folder, _ = three_images
    predict_rows = batch.predict_rows

    def predicted(*about):
        catalogue.write_text(catalogue.read_text().replace("5250", "5251"))
        return predict_rows(*about)

    monkeypatch.setattr(batch, "predict_rows", predicted)
    job = job_of(untrained, Files(folder, by_id=True))
    with pytest.raises(InputError, match=r"the rows of .*three\.csv change while they are pred"):
        batch.predict_catalogue(untrained, job, catalogue, tmp_path / "out.csv")


def test_a_damaged_part_is_predicted_again(untrained, three_images, tmp_path, monkeypatch):
    catalogue, folder, _ = three_images
    job, output = job_of(untrained, Files(folder, by_id=True)), tmp_path / "out.csv"
    with monkeypatch.context() as patch:
        stopped_after(2, patch)
        with pytest.raises(KeyboardInterrupt):
            batch.predict_catalogue(untrained, job, catalogue, output, rows_at_once=1)
    part = tmp_path / ".out.csv.parts/000000.parquet"
    part.write_bytes(part.read_bytes()[:100])
    assert batch.predict_catalogue(untrained, job, catalogue, output, rows_at_once=1) == 3


def test_a_set_of_images_that_is_replaced_is_opened_anew(raw_folder, tmp_path):
    """Also by a Dask worker, which lives on from one run to the next."""
    folder = shutil.copytree(raw_folder, tmp_path / "raw")
    champion = champions.mean_champion(bands=("g",), pixels=24)
    source, row = Dataset(folder), Row(0, "3")
    before, state = source.galaxy(row, champion)[0].images, source.state([row])
    shard = folder / "images-000.npy"
    images = np.load(shard) + 1
    shard.unlink()
    np.save(shard, images)
    assert source.state([row]) != state
    np.testing.assert_array_equal(source.galaxy(row, champion)[0].images, before + 1)


def test_two_runs_into_one_file_are_refused(champion, galaxies, tmp_path):
    given = tmp_path / "few.csv"
    write_catalogue(given, 2)
    with (
        alone(tmp_path / "out.csv"),
        pytest.raises(InputError, match=r"another process writes .*out\.csv: wait until it has"),
    ):
        batch.predict_catalogue(
            champion, job_of(champion, Files(galaxies)), given, tmp_path / "out.csv"
        )


@pytest.mark.slow
def test_dask_gives_the_same_bytes(pipeline, champion, galaxies, tmp_path, dask_scheduler):
    given = galaxies / "some.csv"
    write_catalogue(given, 60)
    job = job_of(champion, Files(galaxies))
    with inside(pipeline):
        batch.predict_catalogue(champion, job, given, tmp_path / "far.fits", dask_scheduler, 8)
        other = job_of(champion, Files(galaxies), digest="0" * 64)
        with pytest.raises(InputError, match="version 1 has other weights on this worker: give"):
            batch.predict_catalogue(champion, other, given, tmp_path / "no.fits", dask_scheduler, 8)
    batch.predict_catalogue(champion, job, given, tmp_path / "here.fits", None, 8)
    assert (tmp_path / "far.fits").read_bytes() == (tmp_path / "here.fits").read_bytes()


def test_no_scheduler_is_one_sentence(pipeline, galaxies, tmp_path):
    write_catalogue(galaxies / "two.csv", 2)
    with (
        inside(pipeline),
        pytest.raises(SystemExit, match="--scheduler: no Dask scheduler at nothing") as stop,
    ):
        main(
            [
                "predict",
                str(galaxies / "two.csv"),
                "--output",
                str(tmp_path / "a.csv"),
                "--scheduler",
                "nothing://here",
            ]
        )
    assert "\n" not in str(stop.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.csv"], "is a catalogue: name the table to write with --output"),
        (["a.csv", "b.csv", "--output", "o.csv"], "give one catalogue or folder by itself"),
        (["c.csv", "--output", "o.csv"], r"c\.csv is missing: check the path"),
        (["a.csv", "--output", "o.csv", "--cz", "5"], "--cz and --cz-error are columns"),
        (["a.csv", "--output", "o.csv", "--at", "5", "6"], "give one distance"),
        (
            ["a.csv", "--output", "o.txt"],
            r"use \.ecsv or \.csv or \.fits or \.parquet",
        ),
        (["a.csv", "--output", "no/o.csv"], "make the folder no first"),
        (["a.csv", "--output", "o.csv", "--images", "no"], "--images no: there is no such folder"),
        (["data", "--output", "o.csv"], r"data has no table\.ecsv: give a folder that fetch"),
        (["x.fits", "--pictures", "p"], "--pictures is for catalogues"),
        (["x.fits", "--column", "cz_kms=CZ"], "--column is for catalogues: give a catalogue"),
        (["data", "--output", "o.csv", "--column", "z=Z"], "--column is for catalogues, and data"),
        (["a.csv", "--output", "o.csv", "--column", "CZ"], "--column CZ: give our name and the f"),
        (["a.csv", "--output", "o.csv", "--column", "cz_kms="], "such as cz_kms=CZ"),
        (
            ["a.csv", "--output", "o.csv", "--column", "v=CZ"],
            "--column v=CZ: v is none of path, ",
        ),
        (
            ["a.csv", "--output", "o.csv", *["--column", "z=Z"] * 2],
            "--column z=Z: z is given tw",
        ),
        (
            ["a.csv", "--output", "o.csv", "--column", "ra=RA"],
            "has no column RA, which --colum",
        ),
        (["x.fits", "--cz-error", "-1"], "--cz-error -1: give a speed in km/s, not negative"),
    ],
)
def test_faults_of_the_command_are_one_sentence(tmp_path, arguments, message):
    for name in ("a.csv", "b.csv", "x.fits"):
        (tmp_path / name).write_text("path,cz_kms\nx.fits,5000\n")
    (tmp_path / "data").mkdir()
    before = names(tmp_path)
    with inside(tmp_path), pytest.raises(SystemExit, match=message) as stop:
        main(["predict", *arguments])
    assert "\n" not in str(stop.value)
    assert names(tmp_path) == before
