"""What is damaged, doubled or no number in a catalogue is refused or flagged, and never read."""

import base64
import datetime
import errno
import gzip
import re
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.io.votable.tree import VOTableFile
from astropy.table import Table

from builders.tables import WRITERS, masked_table, write_catalogue
from peculiar.core.errors import InputError
from peculiar.predict.catalogue import Row, chunks, is_catalogue
from peculiar.predict.cells_text import LONGEST_LINE
from peculiar.predict.readers import OTHERS

GOOD = {"id": [1, 2, 3], "cz_kms": [5250.5, 5600.25, 4900.0], "camera": [0, 1, 2]}


def rows_of(path):
    return [row for chunk in chunks(path, 2) for row in chunk]


def refusal(path):
    with pytest.raises(InputError) as stop:
        rows_of(path)
    assert "\n" not in str(stop.value)
    assert str(path) in str(stop.value)
    return str(stop.value)


def doubled(writer, folder):
    """A catalogue with the columns cz_kms and CZ_kms."""
    columns = {"id": [1, 2], "cz_kms": [5250, 5251], "xz_kms": [5600, 5601]}
    path = write_catalogue(writer, columns, folder)
    content = path.read_bytes()
    if writer.startswith("parquet"):
        table = pq.read_table(path)
        names = [name.replace("xz", "CZ") for name in table.column_names]
        pq.write_table(table.rename_columns(names), path)
    elif path.suffix == ".gz":
        plain = gzip.decompress(content).replace(b"xz_kms", b"CZ_kms")
        path.write_bytes(gzip.compress(plain, mtime=0))
    else:
        encoding = "utf-16" if "16" in writer else "latin-1"
        text = content.decode(encoding).replace("xz_kms", "CZ_kms")
        path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("writer", WRITERS)
def test_a_column_that_stands_twice_is_refused(tmp_path, writer):
    assert "has the column cz_kms more than once: keep one" in refusal(doubled(writer, tmp_path))


@pytest.mark.parametrize(
    ("misspelt", "name"),
    [
        ("cz_err_kms", "cz_error_kms"),
        ("CZ_eror_kms", "cz_error_kms"),
        ("distance_kpc", "distance_mpc"),
        ("cameras", "camera"),
        ("cz_km", "cz_kms"),
        ("cz_error", "cz_error_kms"),
        ("CZ_err", "cz_error_kms"),
        ("v_prior", "v_prior_kms"),
    ],
)
def test_a_misspelt_column_is_not_ignored(tmp_path, misspelt, name):
    columns = ["id", *dict.fromkeys(["cz_kms", misspelt])]
    if name == "cz_kms":
        columns.remove(name)
    path = tmp_path / "x.csv"
    path.write_text(",".join(columns) + "\n" + ",".join("1" * len(columns)) + "\n")
    assert f"has a column {misspelt.lower()} and none {name}: call it {name}, or" in refusal(path)


def test_columns_unlike_ours_are_ignored(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(
        "id,cz_kms,ra2,dec_2,e_cz_kms,filter,distance_error,frame_id\n" + "1," * 7 + "1\n"
    )
    assert rows_of(path)[0].flags == ()


NO_NUMBERS = [
    *("5_012", "٥٠١٢", "５０１２", "0x1388", "5.012,5", "5012 km/s", "1e", "5012.0.1", "--5"),
    *("True", "inf", "-Infinity", "1e999", "5012\x00", "²", "½", "Ⅴ"),
]


@pytest.mark.parametrize("cell", NO_NUMBERS)
@pytest.mark.parametrize(
    "writer",
    [
        "csv with ;",
        "tsv",
        "csv in UTF-16",
        "ecsv",
        "parquet of arrow",
        "votable",
        "votable, binary2",
    ],
)
def test_text_that_is_no_number_is_flagged(tmp_path, writer, cell):
    if "\x00" in cell and ("votable" in writer or writer == "ecsv"):
        pytest.skip("astropy writes text that ends there")
    columns = {"id": ["1", "2"], "cz_kms": ["5250", cell], "camera": ["0", cell]}
    good, bad = rows_of(write_catalogue(writer, columns, tmp_path))
    assert (good.cz_kms, good.camera, good.flags) == (5250, 0, ())
    assert (np.isnan(bad.cz_kms), bad.camera, bad.flags) == (True, -1, ("bad_cz",))


@pytest.mark.parametrize("cell", ["5_012", "٥٠١٢", "５０１２", "5012.0.1", "x"])
def test_a_field_of_numbers_of_votable_has_numbers(tmp_path, cell):
    path = write_catalogue("votable", GOOD, tmp_path)
    path.write_text(path.read_text().replace("5600.25", cell))
    assert f"has {cell!r} in row 1, which is no number: correct it" in refusal(path)


@pytest.mark.parametrize("cell", ["5_012", "5012.0.1", "x"])
@pytest.mark.parametrize("writer", ["ipac", "fits of text"])
def test_numbers_in_tables_of_places_are_checked_row_by_row(tmp_path, writer, cell):
    path = write_catalogue(writer, GOOD, tmp_path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"5600.25", cell.ljust(7).encode()[:7]))
    good, bad, _ = rows_of(path)
    assert (good.cz_kms, bad.flags) == (5250.5, ("bad_cz",))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([True, False]), None),
        (pa.array([datetime.date(2026, 1, 1)] * 2), None),
        (pa.array([[5000.0], [5000.0]]), None),
        (pa.array([b"5000", b"5000"]), 5000),
        (pa.array([Decimal("5000.5")] * 2), 5000.5),
        (pa.array([5000, 5000], pa.uint16()), 5000),
    ],
)
def test_cells_of_other_types_are_numbers_or_flagged(tmp_path, values, expected):
    pq.write_table(pa.table({"id": [1, 2], "cz_kms": values}), tmp_path / "x.parquet")
    row = rows_of(tmp_path / "x.parquet")[0]
    assert row.flags == (("bad_cz",) if expected is None else ())
    assert row.cz_kms == pytest.approx(np.nan if expected is None else expected, nan_ok=True)


def test_columns_of_several_numbers_are_flagged(tmp_path):
    table = Table({"id": [1, 2], "cz_kms": [[5000.0], [5001.0]], "camera": [[0, 1], [0, 1]]})
    table.write(tmp_path / "x.fits")
    assert {(row.camera, row.flags) for row in rows_of(tmp_path / "x.fits")} == {(-1, ("bad_cz",))}


@pytest.mark.parametrize("writer", [name for name in WRITERS if name.startswith(("csv", "tsv"))])
@pytest.mark.parametrize("fault", ["more", "fewer", "cut", "joined"])
def test_a_row_with_another_number_of_cells_is_flagged(tmp_path, writer, fault):
    path = write_catalogue(writer, {"id": [1, 2], "cz_kms": [5, 6], "camera": [0, 1]}, tmp_path)
    zipped, encoding = path.suffix == ".gz", "utf-16" if "16" in writer else "utf-8-sig"
    text = (gzip.decompress(path.read_bytes()) if zipped else path.read_bytes()).decode(encoding)
    separator = text[2]
    header, first, second = text.splitlines()
    lines = {
        "more": [header, first, second + separator],
        "fewer": [header, first, second.rpartition(separator)[0]],
        "cut": [header, first, second.partition(separator)[0]],
        "joined": [header, first + second],
    }[fault]
    content = ("\n".join(lines) + "\n" * (fault != "cut")).encode(encoding)
    path.write_bytes(gzip.compress(content, mtime=0) if zipped else content)
    row = rows_of(path)[-1]
    number = {"more": 4, "fewer": 2, "cut": 1, "joined": 5}[fault]
    line = 2 if fault == "joined" else 3
    reason = f"line {line} has {number} cells, but the header has 3"
    assert row == Row(line - 2, "", flags=("bad_row",), reason=reason, cz_kms=row.cz_kms)
    assert np.isnan(row.cz_kms)


def test_names_of_rows_by_r_do_not_move_its_columns(tmp_path):
    """R's write.table puts a name before each row, but none into the header."""
    (tmp_path / "x.csv").write_text('"id","cz_kms"\n"1",0,5250\n"2",1,5600\n')
    assert [row.flags for row in rows_of(tmp_path / "x.csv")] == [("bad_row",)] * 2


def test_a_complete_last_line_needs_no_end(tmp_path):
    (tmp_path / "x.csv").write_text("id,cz_kms\n0,5250\n1,5600")
    assert [row.flags for row in rows_of(tmp_path / "x.csv")] == [(), ()]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("   3   490", "line 8 ends in the middle"),
        (" 3  4900.0 |    2 \n", "line 8 has text outside the columns of the header"),
        ("  3   4900.0      2  9\n", "line 8 has text outside the columns of the header"),
    ],
)
def test_rows_of_ipac_stay_between_the_bars(tmp_path, line, reason):
    path = tmp_path / "x.tbl"
    header = (
        "\\ of one\n\\K = 2\n| id|  cz_kms|camera|\n|int|  double|   int|\n|   |    km/s|      |\n"
    )
    path.write_text(header + "|nul|     nul|   nul|\n   1   5250.5      0 \n" + line)
    good, bad = rows_of(path)
    assert (good.name, good.cz_kms, good.camera) == ("1", 5250.5, 0)
    assert (bad.flags, bad.reason) == (("bad_row",), reason)


def votable(folder, change=lambda text: text, name="x.vot"):
    table = masked_table(GOOD)
    table.write(folder / name, format="votable")
    (folder / name).write_text(change((folder / name).read_text()))
    return folder / name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], "cannot be read"),
        (lambda text: text.replace("<TD>2</TD>", "", 1), "has 2 cells in row 1, but 3 fields"),
        (lambda text: text.replace("<TABLE>", '<TABLE nrows="4">'), "has 3 rows, but announces 4"),
        (
            lambda text: re.sub(r"(<TABLE>.*</TABLE>)", r"\1\1", text, flags=re.S),
            "has 2 tables: give one with one table",
        ),
        (
            lambda text: re.sub(
                "<TABLEDATA>.*</TABLEDATA>",
                '<BINARY><STREAM href="file:///etc/hostname"/></BINARY>',
                text,
                flags=re.S,
            ),
            "has its data in another file: write them into this one",
        ),
    ],
)
def test_votables_that_astropy_would_fill_up_are_refused(tmp_path, change, message):
    assert message in refusal(votable(tmp_path, change))


@pytest.mark.parametrize("form", ["binary", "binary2"])
def test_binary_data_that_end_in_a_row_are_refused(tmp_path, form):
    table = VOTableFile.from_table(masked_table(GOOD))
    path = tmp_path / "x.vot"
    table.to_xml(str(path), tabledata_format=form)

    def cut(match):
        return match[1] + base64.b64encode(base64.b64decode(match[2])[:-3]) + match[3]

    assert [row.cz_kms for row in rows_of(path)] == GOOD["cz_kms"]
    pattern = rb"(<STREAM[^>]*>)(.*)(</STREAM>)"
    path.write_bytes(re.sub(pattern, cut, path.read_bytes(), flags=re.S))
    assert "ends in the middle of a row: write it again" in refusal(path)


def test_a_large_votable_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("peculiar.predict.cells_votable.LARGEST", 1 << 10)
    path = votable(tmp_path, lambda text: text + " " * 2000)
    assert "is larger than 0 MiB: write it as Parquet or FITS" in refusal(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"# id,cz_kms\n0,5250\n", "has its header in a comment, line 1: remove the #"),
        ("x.csv", "id,cz_kms\n0,5250\n".encode("utf-16-le"), "has no column path or id"),
        ("x.csv", b"id cz_kms\n0 5250\n", "has no column path or id"),
        ("x.csv", b'id,cz_kms\n0,"5250\n1,5600\n', "is no CSV at line 3"),
        ("x.csv", b'id,cz_kms\n"0"1,5250\n', "is no CSV at line 2"),
        ("x.csv", b"id,cz_kms\n0," + b"1" * LONGEST_LINE, "more than 1048575 letters in line 2"),
        ("x.csv.gz", gzip.compress(b"id,cz_kms\n" * 999, mtime=0)[:40], "cannot be read"),
        ("x.csv.gz", gzip.compress(b"id,cz_kms\n", mtime=0)[:-6], "cannot be read"),
        (
            "x.ecsv",
            b"# %ECSV 1.0\n# ---\n# datatype:\n# - {name: id, datatype: int64}\n"
            b"# - {name: cz_kms, datatype: int64}\ncz_kms id\n1 5250\n",
            "describes other columns than its table has",
        ),
        ("x.tbl", b"id cz_kms\n1 5250\n", "has no header of bars"),
        ("x.tbl", b"|id |cz_kms|\n|int|int |\n 1   5250 \n", "has no header of bars"),
        ("x.txt", b"id cz_kms\n1 5250\n", "unsupported extension: give a catalogue as .csv, "),
        ("x.xlsx", b"PK", "unsupported extension: give a catalogue as .csv, "),
    ],
)
def test_what_would_be_misread_is_refused(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    assert is_catalogue(path)
    assert message in refusal(path)


def test_formats_of_others_are_named_and_images_are_not_taken_for_tables(tmp_path):
    assert all(is_catalogue(tmp_path / f"x{ending.upper()}") for ending in OTHERS)
    assert not is_catalogue(tmp_path / "image")


def test_a_table_whose_sum_is_wrong_is_refused(tmp_path):
    path = tmp_path / "x.fits"
    fits.BinTableHDU(Table(GOOD)).writeto(path, checksum=True)
    assert [row.cz_kms for row in rows_of(path)] == GOOD["cz_kms"]
    content = bytearray(path.read_bytes())
    at = content.index(np.array(5600.25, ">f8").tobytes())
    content[at + 3] ^= 1
    path.write_bytes(bytes(content))
    assert "has another check sum than its header says: write it again" in refusal(path)


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize(
    "card", ["5", "T", "", "''", "'id'", "'cz_kms'", "'a\xff'", "'unclosed", "'" + "x" * 40 + "'"]
)
def test_a_bad_name_of_a_fits_column_is_one_sentence_or_no_matter(tmp_path, number, card):
    path, names = tmp_path / "x.fits", ("id", "cz_kms", "other")
    fits.BinTableHDU(Table({name: [1.0, 2.0] for name in names})).writeto(path)
    old = f"TTYPE{number}  = '{names[number - 1]:8}'".encode().ljust(70)
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, f"TTYPE{number}  = {card}".encode("latin-1").ljust(70)))
    if card.strip("'") == names[number - 1] or (number == 3 and card[:2] in ("'a", "'x")):
        rows = rows_of(path)
        assert [(row.name, row.cz_kms, row.flags) for row in rows] == [("1", 1, ()), ("2", 2, ())]
    else:
        refusal(path)


def test_a_fits_file_without_a_table_is_refused(tmp_path):
    fits.PrimaryHDU(np.ones((4, 4))).writeto(tmp_path / "x.fits")
    assert "has no table: give a catalogue of galaxies" in refusal(tmp_path / "x.fits")


def test_a_fault_of_the_disk_is_not_said_to_be_the_file_s(tmp_path, monkeypatch):
    path = write_catalogue("csv of pandas", GOOD, tmp_path)

    def broken(_):
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr("peculiar.predict.cells_text.open_text", broken)
    with pytest.raises(OSError, match="Input/output error"):
        rows_of(path)


def test_two_tables_in_a_fits_file_are_refused(tmp_path):
    hdu = fits.BinTableHDU(Table(GOOD))
    fits.HDUList([fits.PrimaryHDU(), hdu, hdu.copy()]).writeto(tmp_path / "x.fits")
    assert is_catalogue(tmp_path / "x.fits")
    assert "has 2 tables: give a file with one" in refusal(tmp_path / "x.fits")


def test_units_of_topcat_s_parquet_are_read(tmp_path):
    table = Table({"id": [1], "cz_kms": [5e6]}, units={"cz_kms": "m / s"})
    table.write(tmp_path / "x.vot", format="votable")
    about = {"IVOA.VOTable-Parquet.content": (tmp_path / "x.vot").read_bytes()}
    pq.write_table(
        pa.table({"id": [1], "cz_kms": [5e6]}).replace_schema_metadata(about),
        tmp_path / "x.parquet",
    )
    assert rows_of(tmp_path / "x.parquet")[0].cz_kms == 5000


@pytest.mark.parametrize("raw", [b"a\xff\xfe.fits", "größer.fits".encode("latin-1")])
def test_names_that_are_no_utf_8_are_shown_with_escapes(tmp_path, raw):
    (tmp_path / "x.csv").write_bytes(b"path,cz_kms\n" + raw + b",5250\n")
    table = fits.BinTableHDU(Table({"path": [raw], "cz_kms": [5250.0]}))
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(tmp_path / "x.fits")
    pq.write_table(pa.table({"path": [raw], "cz_kms": [5250.0]}), tmp_path / "x.parquet")
    for name in ("x.csv", "x.fits", "x.parquet"):
        (row,) = rows_of(tmp_path / name)
        assert row.name == raw.decode(errors="backslashreplace"), name


def test_a_float_beyond_exact_integers_is_no_id(tmp_path):
    pq.write_table(pa.table({"id": [2.0**60, 7.0], "cz_kms": [1.0, 1.0]}), tmp_path / "x.parquet")
    assert [row.name for row in rows_of(tmp_path / "x.parquet")] == ["1.152921504606847e+18", "7"]
