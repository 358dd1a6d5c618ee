"""Images of a catalogue's rows: in shards that `fetch` or `observe` wrote, or in files."""

import shutil

import numpy as np
import pytest

from builders.champions import mean_champion
from peculiar.core.dataset import (
    OBSERVED_COLUMNS,
    RAW_COLUMNS,
    TABLE,
    Shards,
    read_table,
    write_table,
)
from peculiar.core.errors import InputError
from peculiar.predict.catalogue import Row
from peculiar.predict.images import Dataset, Files, rows_of, source_of


def champion(bands):
    return mean_champion(bands=bands, pixels=8)


def test_raw_shards_give_galaxies_that_can_be_placed(raw_folder):
    rows = [row for chunk in rows_of(raw_folder, 5) for row in chunk]
    assert len(rows) == 24
    assert (rows[3].name, rows[3].camera, rows[3].flags) == ("10", 1, ("no_cz",))
    galaxy, camera = Dataset(raw_folder).galaxy(rows[3], champion("ir"))
    assert camera == 0
    assert np.isfinite(galaxy.kpc_per_pixel).all()
    expected = Shards(raw_folder)[np.array([1])][0, 1, [2, 1]]
    np.testing.assert_array_equal(galaxy.images[0], expected)


def test_observed_shards_give_images_that_cannot_be_moved(observed_folder):
    rows = next(rows_of(observed_folder, 9))
    assert len(rows) == 9
    assert np.isfinite(rows[0].cz_kms)
    galaxy, camera = Dataset(observed_folder).galaxy(rows[5], champion("r"))
    assert camera == 0
    assert np.isnan(galaxy.kpc_per_pixel).all()
    expected = Shards(observed_folder)[np.array([5])][0, [1]]
    np.testing.assert_array_equal(galaxy.images[0], expected)


def test_what_a_dataset_lacks_is_named(raw_folder, tmp_path):
    with pytest.raises(InputError, match="holds the bands gri, but the champion needs u: give im"):
        Dataset(raw_folder).galaxy(Row(0, "10"), champion("u"))
    with pytest.raises(InputError, match="has no galaxy 10 with camera 7"):
        Dataset(raw_folder).galaxy(Row(0, "10", 7), champion("r"))
    with pytest.raises(InputError, match="has no galaxy 11 with camera 0"):
        Dataset(raw_folder).galaxy(Row(0, "11"), champion("r"))
    folder = shutil.copytree(raw_folder, tmp_path / "damaged")
    text = (folder / TABLE).read_text()
    (folder / TABLE).write_text(text.replace("kpc_per_pixel", "other"))
    with pytest.raises(InputError, match="lacks the columns"):
        next(rows_of(folder, 9))


def test_a_galaxy_that_is_there_twice_is_refused(raw_folder, observed_folder, tmp_path):
    """A dictionary by number would keep one of the two, and a split would take them for one."""
    for name, folder, columns in (
        ("raw", raw_folder, RAW_COLUMNS),
        ("observed", observed_folder, OBSERVED_COLUMNS),
    ):
        copy = shutil.copytree(folder, tmp_path / name)
        table = read_table(copy, columns)
        for key in ("id", "galaxy", "camera"):
            if key in table.colnames:
                table[key][5] = table[key][2]
        (copy / TABLE).unlink()
        write_table(table, copy, columns)
        with pytest.raises(InputError, match=r"has (id 17|galaxy 100, camera 2) twice: remove one"):
            next(rows_of(copy, 9))


def test_files_are_found_by_number_whatever_their_ending(tmp_path):
    for name in ("._broadband_7.fits", "a_7.fits", "b_8.FIT", "c_9.fits.gz", "d_9.fts"):
        (tmp_path / name).write_bytes(b"")
    files = Files(tmp_path, by_id=True)
    for number, words in (
        ("7", r"a_7\.fits"),
        ("8", r"b_8\.FIT"),
        ("9", r"has 2 files \.\.\._9\.fits, not one"),
        ("٧", r"has 0 files"),
    ):
        with pytest.raises(InputError, match=words):
            files.galaxy(Row(0, number), champion("r"))


def test_other_dimming_is_refused(observed_folder):
    literal = mean_champion(bands="r", pixels=8, dimming="literal")
    with pytest.raises(InputError, match="has physical dimming, the champion literal"):
        Dataset(observed_folder).galaxy(Row(0, "100"), literal)


def test_images_placed_with_another_psf_are_refused(observed_folder):
    blunt = mean_champion(bands="r", pixels=8, psf_fwhm_arcsec=4.08)
    words = r"has cubic resampling, the champion a PSF of 4\.08 arcsec: observe it again"
    with pytest.raises(InputError, match=words):
        Dataset(observed_folder).galaxy(Row(0, "100"), blunt)


def test_images_read_with_another_scale_are_refused(observed_folder):
    paper = mean_champion(bands="r", pixels=8, scale="paper")
    words = "has cubic resampling, the champion cubic resampling, every frame taken as one size"
    with pytest.raises(InputError, match=words):
        Dataset(observed_folder).galaxy(Row(0, "100"), paper)


def test_images_of_another_cosmology_are_refused(observed_folder):
    expanding = mean_champion(bands="r", pixels=8, cosmology="flat_lambda_cdm")
    words = "has cubic resampling, the champion cubic resampling, cosmology flat_lambda_cdm: obs"
    with pytest.raises(InputError, match=words):
        Dataset(observed_folder).galaxy(Row(0, "100"), expanding)


def test_where_images_are(raw_folder, tmp_path):
    given = tmp_path / "catalogue.csv"
    given.write_text("id,cz_kms\n3,5000\n")
    assert source_of(raw_folder, None, None) == Dataset(raw_folder)
    assert source_of(given, raw_folder, None) == Dataset(raw_folder)
    assert source_of(given, None, None) == Files(tmp_path, by_id=True)
    with pytest.raises(InputError, match=r"--images .*gone: there is no such folder"):
        source_of(given, tmp_path / "gone", None)
    with pytest.raises(InputError, match="give a folder that fetch or observe wrote"):
        source_of(tmp_path, None, None)
    with pytest.raises(InputError, match=r"has 0 files \.\.\._3\.fits, not one"):
        Files(tmp_path, by_id=True).galaxy(Row(0, "3"), champion("r"))
