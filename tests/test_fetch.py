import hashlib

import numpy as np
import pytest

from peculiar.errors import InputError
from peculiar.fetch import downloaded, fetch, standin_files, standin_knobs
from peculiar.galaxies import RAW_COLUMNS, Shards, read_table
from peculiar.illustris import read_broadband
from peculiar.params import Fetch, FilesSection
from peculiar.standin import StandIn, make_broadband

SMALL = {
    "pixels": 32, "field_of_view_kpc": 84.4, "particle_mass_msun": 2e7, "log10_mass_min": 10.0,
    "log10_mass_max": 10.5, "size_factor": 2.0, "size_scatter": 1.0, "colour_scatter": 1.0,
    "neighbours": 16,
}  # fmt: skip


def params(source="standin", folder=".", catalogue=None, bands="ugriz", galaxies=5):
    return Fetch(
        source=source,
        bands=tuple(bands),
        shard_galaxies=2,
        standin={"seed": 7, "galaxies": galaxies, **SMALL},
        files={"folder": folder, "catalogue": catalogue},
    )


@pytest.fixture
def folder(tmp_path):
    files = tmp_path / "files"
    files.mkdir()
    for number in range(3):
        make_broadband(files / f"broadband_{number}.fits", number, 7, StandIn(**SMALL))
    return files


def test_files_and_standins_go_through_the_same_reader(tmp_path, folder):
    fetch(params("files", folder), tmp_path / "a")
    fetch(params("standin", galaxies=3), tmp_path / "b")
    rows = np.arange(3)
    np.testing.assert_array_equal(Shards(tmp_path / "a")[rows], Shards(tmp_path / "b")[rows])
    one, other = (read_table(tmp_path / name, RAW_COLUMNS) for name in "ab")
    assert list(one["sha256"]) == list(other["sha256"])
    assert one.meta["source"] == "Illustris files"
    assert other.meta["source"] == "stand-in"


def test_images_table_and_checksums_belong_together(tmp_path, folder):
    fetch(params("files", folder, bands="gz"), tmp_path / "raw")
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
    fetch(params("files", folder, catalogue), tmp_path / "raw")
    masses = read_table(tmp_path / "raw", RAW_COLUMNS)["log10_stellar_mass"]
    assert masses[1] == 11.25
    assert masses[2] == 10.5
    assert masses[0] == read_broadband(folder / "broadband_0.fits", "r").log10_stellar_mass


def test_one_bad_file_leaves_nothing_and_is_named(tmp_path, folder):
    bad = folder / "broadband_1.fits"
    bad.write_bytes(bad.read_bytes()[:-5000])
    with pytest.raises(InputError, match=r"broadband_1\.fits"):
        fetch(params("files", folder), tmp_path / "out/raw")
    assert list((tmp_path / "out").iterdir()) == []


def test_files_of_different_sizes_are_refused(tmp_path, folder):
    other = StandIn(**{**SMALL, "pixels": 48})
    make_broadband(folder / "broadband_9.fits", 9, 7, other)
    with pytest.raises(InputError, match=r"broadband_9\.fits has images of shape .* one size"):
        fetch(params("files", folder), tmp_path / "raw")


def test_empty_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no \.fits file: put broadband_ID\.fits"):
        downloaded(FilesSection(folder=tmp_path, catalogue=None))


def test_impossible_knobs_are_one_sentence():
    section = params().standin.model_copy(update={"neighbours": 100_000})
    with pytest.raises(InputError, match=r"params\.yaml: fetch\.standin: neighbours must be"):
        standin_knobs(section)


def test_at_most_a_few_files_wait_on_disk():
    waiting = []
    for path in standin_files(params(galaxies=12).standin):
        waiting.append(len(list(path.parent.glob("*.fits"))))
        assert path.exists()
    assert len(waiting) == 12
    assert max(waiting) <= 2 * __import__("os").cpu_count() + 1
    assert not path.exists()
