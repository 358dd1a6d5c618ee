"""Files and folders are written completely or not at all."""

from peculiar.core import files


def test_the_digest_of_a_folder_is_of_names_and_contents(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a").write_bytes(b"1")
    first = files.files_sha256(tmp_path)
    (tmp_path / "beside").write_bytes(b"2")
    both = files.files_sha256(tmp_path)
    (tmp_path / "data/a").rename(tmp_path / "data/b")
    assert len({first, both, files.files_sha256(tmp_path)}) == 3
