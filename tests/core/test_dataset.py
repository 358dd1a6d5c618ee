"""Image arrays and tables on disk: round trips, and refusals of what is damaged."""

import errno
import tempfile
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable
from hypothesis import given
from hypothesis import strategies as st

from peculiar.core import dataset
from peculiar.core.dataset import (
    OBSERVED_COLUMNS,
    RAW_COLUMNS,
    TABLE,
    Observed,
    Shards,
    read_table,
    write_table,
)
from peculiar.core.errors import InputError
from peculiar.core.files import replace_folder
from peculiar.core.shard import ShardWriter


def numbered(total, shape=(2, 3)):
    return np.arange(total * np.prod(shape), dtype=np.float32).reshape(total, *shape)


def write(folder, images, per_shard):
    with ShardWriter(folder, len(images), per_shard) as shards:
        for image in images:
            shards.append(image)
    return folder


def small_table(n=3):
    table = QTable()
    table["galaxy"] = np.arange(n)
    table["distance_mpc"] = np.linspace(50, 100, n) / 3 * u.Mpc
    table.meta = {"bands": ["g", "r"], "H0_kms_mpc": 70.5, "source": "test"}
    return table


COLUMNS = ("galaxy", "distance_mpc")


@given(total=st.integers(1, 20), per_shard=st.integers(1, 8), data=st.data())
def test_any_rows_come_back_in_any_order(total, per_shard, data):
    images = numbered(total)
    rows = np.array(data.draw(st.lists(st.integers(0, total - 1), max_size=30)), dtype=int)
    with tempfile.TemporaryDirectory() as folder:
        shards = Shards(write(Path(folder), images, per_shard))
        assert shards.shape == images.shape
        assert len(shards) == total
        assert len(list(Path(folder).iterdir())) == -(-total // per_shard)
        got = shards[rows]
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, images[rows])


@given(total=st.integers(1, 20), per_shard=st.integers(1, 8), data=st.data())
def test_one_camera_of_any_rows_is_what_indexing_gives(total, per_shard, data):
    images = numbered(total, (3, 2, 6, 5))
    middle = data.draw(st.none() | st.integers(1, 9))
    chosen = st.lists(st.tuples(st.integers(0, total - 1), st.integers(0, 2)), min_size=1)
    rows, cameras = np.array(data.draw(chosen)).T
    with tempfile.TemporaryDirectory() as folder:
        got = Shards(write(Path(folder), images, per_shard)).pick(rows, cameras, middle)
    assert got.dtype == np.float32
    rim = 0 if middle is None else (6 - got.shape[-2]) // 2
    expected = images[rows, cameras][..., rim : 6 - rim, rim : 5 - rim]
    np.testing.assert_array_equal(got, expected)
    if middle is not None:  # not less than asked for, and no rim more than needed
        assert min(middle, 5) <= got.shape[-1] <= max(middle, 1) + 1


def test_shards_are_plain_npy_files(tmp_path):
    images = numbered(5)
    write(tmp_path, images, 2)
    read = [np.load(tmp_path / f"images-00{k}.npy") for k in range(3)]
    assert [len(shard) for shard in read] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate(read), images)


def test_views_and_other_types_are_written_as_float32(tmp_path):
    images = numbered(4, (3, 2)).astype(">f8").transpose(0, 2, 1)
    np.testing.assert_array_equal(Shards(write(tmp_path, images, 3))[np.arange(4)], images)


def test_more_than_a_thousand_shards_keep_their_order(tmp_path):
    images = numbered(1002, (1,))
    np.testing.assert_array_equal(Shards(write(tmp_path, images, 1))[np.arange(1002)], images)


def test_what_is_asked_for_is_a_copy(tmp_path):
    shards = Shards(write(tmp_path, numbered(3), 2))
    shards[np.array([0])][:] = -1
    np.testing.assert_array_equal(shards[np.array([0])], numbered(3)[:1])


@pytest.mark.parametrize("row", [-1, 3, 99])
def test_rows_beyond_the_last_are_refused(tmp_path, row):
    shards = Shards(write(tmp_path, numbered(3), 2))
    first, last = sorted([0, row])
    with pytest.raises(IndexError, match=f"rows {first} to {last} of 3 images"):
        shards[np.array([0, row])]


def test_each_picked_row_has_its_camera(tmp_path):
    shards = Shards(write(tmp_path, numbered(3, (2, 1, 4, 4)), 2))
    with pytest.raises(IndexError, match="rows 0 to 3 of 3 images"):
        shards.pick(np.array([0, 3]), np.array([0, 0]))
    with pytest.raises(ValueError, match="2 rows, but 1 cameras"):
        shards.pick(np.array([0, 1]), np.array([0]))
    for camera in (-1, 2):
        with pytest.raises(IndexError, match=f"cameras {camera} to {camera} of 2"):
            shards.pick(np.array([0]), np.array([camera]))


def test_too_many_items_are_refused(tmp_path):
    with ShardWriter(tmp_path, 2, 2) as shards:
        for image in numbered(2):
            shards.append(image)
        with pytest.raises(ValueError, match="was announced with 2 items"):
            shards.append(numbered(1)[0])


def test_too_few_items_are_refused(tmp_path):
    with pytest.raises(ValueError, match="has 1 of 2 items"):
        write_some(tmp_path)


def write_some(folder):
    with ShardWriter(folder, 2, 2) as shards:
        shards.append(numbered(1)[0])


def test_the_first_error_is_not_hidden_by_the_missing_items(tmp_path):
    with pytest.raises(ZeroDivisionError), ShardWriter(tmp_path, 2, 2):
        _ = 1 / 0


@pytest.mark.parametrize("shape", [(3, 2), (2, 4)])
def test_items_of_another_shape_are_refused(tmp_path, shape):
    with ShardWriter(tmp_path, 2, 2) as shards:
        shards.append(np.zeros((2, 3), np.float32))
        with pytest.raises(ValueError, match=r"shape \("):
            shards.append(np.zeros(shape, np.float32))
        shards.append(np.ones((2, 3), np.float32))
    assert Shards(tmp_path).shape == (2, 2, 3)


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(InputError, match="has no images: run `dvc repro`"):
        Shards(tmp_path)


@pytest.mark.parametrize("end", [0, 5, 50, 128, -1])
def test_a_truncated_shard_is_refused(tmp_path, end):
    path = write(tmp_path, numbered(4), 2) / "images-001.npy"
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(InputError, match=r"damaged shard .*run `dvc checkout`"):
        Shards(tmp_path)


def test_shards_of_different_shapes_are_refused(tmp_path):
    write(tmp_path, numbered(4), 2)
    np.save(tmp_path / "images-001.npy", np.zeros((2, 2, 4), np.float32))
    with pytest.raises(InputError, match="shards of different shapes"):
        Shards(tmp_path)


def test_tables_keep_numbers_units_and_meta(tmp_path):
    table = small_table()
    write_table(table, tmp_path, COLUMNS)
    back = read_table(tmp_path, COLUMNS)
    assert back["distance_mpc"].unit == u.Mpc
    np.testing.assert_array_equal(back["distance_mpc"], table["distance_mpc"])
    assert dict(back.meta) == table.meta


def test_a_missing_table_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"table\.ecsv is missing: run `dvc repro`"):
        read_table(tmp_path, COLUMNS)


def test_missing_columns_are_refused_on_both_ways(tmp_path):
    with pytest.raises(InputError, match=r"lacks the columns \['camera'\]: run the stage again"):
        write_table(small_table(), tmp_path, (*COLUMNS, "camera"))
    assert not any(tmp_path.iterdir())
    write_table(small_table(), tmp_path, COLUMNS)
    with pytest.raises(InputError, match=r"lacks the columns \['camera', 'split'\]"):
        read_table(tmp_path, ("camera", *COLUMNS, "split"))


LAST_WORDS = ["%ECSV", "{name: galaxy", "\ngalaxy distance"]
LAST_WORDS += ["# ---", "# datatype:", "\n2"]


@pytest.mark.parametrize("last", LAST_WORDS)
def test_a_truncated_table_is_refused_in_one_line(tmp_path, last):
    write_table(small_table(), tmp_path, COLUMNS)
    path = tmp_path / TABLE
    path.write_text(path.read_text().partition(last)[0] + last)
    with pytest.raises(
        InputError, match=r"table\.ecsv cannot be read .*: run `dvc checkout`$"
    ) as no:
        read_table(tmp_path, COLUMNS)
    assert "\n" not in str(no.value)


def test_an_observed_set_is_read_as_it_was_written(observed_folder, observed):
    assert len(observed.images) == len(observed.table) == 240
    assert observed.images.shape == (240, 2, 8, 8)
    assert observed.table.meta["bands"] == ["g", "r"]
    rows = [observed.rows(split) for split in dataset.SPLITS]
    assert [len(part) for part in rows] == [140, 40, 60]
    np.testing.assert_array_equal(np.sort(np.concatenate(rows)), np.arange(240))
    assert set(RAW_COLUMNS).isdisjoint(read_table(observed_folder, OBSERVED_COLUMNS).colnames)


def test_images_and_table_of_different_lengths_are_refused(tmp_path, observed):
    write(tmp_path, numbered(7), 4)
    write_table(observed.table[:6], tmp_path, OBSERVED_COLUMNS)
    with pytest.raises(InputError, match="has 7 images but 6 table rows: run `dvc checkout`"):
        Observed.read(tmp_path)


def test_a_folder_appears_only_when_it_is_complete(tmp_path):
    folder = tmp_path / "deep" / "set"
    with replace_folder(folder) as partial:
        (partial / "a").write_text("new")
        assert partial.parent == folder.parent  # so that renaming moves no bytes
        assert not folder.exists()
    assert (folder / "a").read_text() == "new"
    assert [path.name for path in folder.parent.iterdir()] == ["set"]


def fail_half_way(folder, error):
    with replace_folder(folder) as partial:
        (partial / "a").write_text("half")
        raise error


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_no_folder(tmp_path, error):
    with pytest.raises(error):
        fail_half_way(tmp_path / "set", error)
    assert not any(tmp_path.iterdir())


def test_an_old_folder_is_replaced_wholly(tmp_path):
    folder = tmp_path / "set"
    for name in ("old", "new"):
        with replace_folder(folder) as partial:
            (partial / name).touch()
    assert [path.name for path in folder.iterdir()] == ["new"]


def test_what_a_killed_process_left_is_not_mixed_in(tmp_path):
    with replace_folder(tmp_path / "set") as partial:
        where = partial
    where.mkdir()
    (where / "stale").touch()
    with replace_folder(tmp_path / "set") as partial:
        (partial / "fresh").touch()
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["fresh"]


def test_a_full_disk_is_an_error_and_leaves_no_folder(tmp_path, monkeypatch):
    class FullDisk:
        def __init__(self, file):
            self.file = file

        def write(self, data):
            if self.file.tell() > 200:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(data)

        def close(self):
            self.file.close()

    original = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *mode: FullDisk(original(self, *mode)))
    with (
        pytest.raises(OSError, match="No space left") as full,
        replace_folder(tmp_path / "set") as partial,
    ):
        write(partial, numbered(9, (4, 4)), 9)
    assert full.value.errno == errno.ENOSPC
    assert not any(tmp_path.iterdir())
