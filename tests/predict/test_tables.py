"""Tables are whole or not there, and the same in each format."""

import io

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io.votable import parse
from astropy.io.votable.ucd import check_ucd
from astropy.table import QTable, Table
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from peculiar.core.errors import InputError
from peculiar.core.files import replace_file
from peculiar.predict.cells_votable import fields_of_votable
from peculiar.predict.columns import NUMBERS, TEXT_COLUMNS, UCDS, Column
from peculiar.predict.rows import ALL_COLUMNS
from peculiar.predict.tables import assemble, numbers, printable, texts, write_part

COLUMNS = {"v": Column("km / s", "a velocity"), "flags": Column("", "problems", None)}
META = {"model": "m", "version": "3", "digest": "0" * 64, "H0": 70.0}


@pytest.mark.parametrize("ending", ["ecsv", "csv", "fits", "parquet"])
def test_parts_are_joined_with_units_descriptions_and_meta(tmp_path, ending):
    parts = [tmp_path / "a.part", tmp_path / "b.part"]
    v = [1.5, float("nan"), 0.1 + 0.2]
    texts = ["ok", 'a, "b" # c', "größer"]
    write_part(pa.table({"row": [0, 1], "v": v[:2], "flags": texts[:2]}), parts[0])
    write_part(pa.table({"row": [2], "v": v[2:], "flags": texts[2:]}), parts[1])
    output = tmp_path / f"o.{ending}"
    assert assemble(parts, COLUMNS, META, output) == 3
    first = output.read_bytes()
    assemble(parts, COLUMNS, META, output)
    assert output.read_bytes() == first
    table = QTable.read(output, **({"format": "ascii.ecsv"} if ending == "csv" else {}))
    assert str(table["v"].unit) == "km / s"
    assert table["v"].info.description == "a velocity"
    assert table["flags"].info.description == "problems"
    assert table["flags"].info.format is table["row"].info.description is None
    assert table["v"].info.format == ("{:10.1f}" if ending == "fits" else ".1f")
    np.testing.assert_array_equal(table["v"].value, v)
    assert table["row"].tolist() == [0, 1, 2]
    seen = ["gr\\xf6\\xdfer"] if ending == "fits" else ["größer"]
    assert table["flags"].tolist() == texts[:2] + seen
    if ending == "fits":
        assert table.meta.pop("TCOMM2") == "a velocity"
        assert table.meta.pop("TCOMM3") == "problems"
    meta = {key.lower(): value for key, value in table.meta.items()}
    assert meta == {key.lower(): value for key, value in META.items()}
    if ending == "csv":
        assert pandas.read_csv(output, comment="#")["row"].tolist() == [0, 1, 2]


ODD = [
    "a\nb",
    "a\rb",
    "a\tb",
    "a\x85b",
    "a\u2028b",
    "a\x0bb",
    "a\x00b",
    "a\udcffb",
    "\ufeffx",
    "\xa0",
]
ODD += ["a,b", '"q"', '"', "#x", "--", "nan", "N/A", "True", "1.0", "\\n", " lead", "trail ", " "]


@pytest.mark.parametrize("ending", ["ecsv", "csv", "fits", "parquet"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=8)
@given(names=st.lists(st.text(st.characters(), min_size=1), min_size=1, max_size=4))
@example(names=ODD)
def test_texts_read_back_as_they_were_written(tmp_path, ending, names):
    output, part = tmp_path / f"o.{ending}", tmp_path / "part"
    shown = [printable(name) for name in names]
    assert all(name.isprintable() for name in shown)
    write_part(pa.table({"row": list(range(len(names))), "name": texts(names)}), part)
    assemble([part], {}, {"input": names[0]}, output)
    table = QTable.read(output, **({"format": "ascii.ecsv"} if ending == "csv" else {}))
    if ending == "fits":
        shown = [name.encode("ascii", "backslashreplace").decode() for name in shown]
    assert table["name"].tolist() == shown
    meta = {key.lower(): value for key, value in table.meta.items()}
    assert meta["input"] == shown[0]


def test_plain_names_stay_as_they_are():
    for name in ("broadband_3.fits", "größer ñ.fits", "a, b; c#'d'"):
        assert printable(name) == name
    assert printable(" a\n\udcff") == "\\x20a\\n\\udcff"


def test_a_file_is_complete_or_unchanged(tmp_path):
    path = tmp_path / "x"
    path.write_text("before")

    def interrupted():
        with replace_file(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def kinds(draw, size):
    """Columns of each type that a table may hold, with missing cells."""
    whole = st.integers(-(2**31), 2**31 - 1)
    real = st.floats(allow_nan=False, allow_infinity=False, width=32)

    def cells(values):
        return draw(st.lists(st.none() | values, min_size=size, max_size=size))

    vectors = draw(st.lists(st.lists(real, min_size=2, max_size=2), min_size=size, max_size=size))
    return {
        "truth": pa.array(cells(st.booleans()), pa.bool_()),
        "small": pa.array(cells(st.integers(-(2**15) + 1, 2**15 - 1)), pa.int16()),
        "whole": pa.array(cells(whole), pa.int32()),
        "large": pa.array(cells(st.integers(-(2**63) + 1, 2**63 - 1)), pa.int64()),
        "single": pa.array(cells(real), pa.float32()),
        "double": pa.array(cells(real), pa.float64()),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(np.ravel(vectors), pa.float32()), 2),
        "list": pa.FixedSizeListArray.from_arrays(
            pa.array(cells(whole) + cells(whole), pa.int32()), 2
        ),
    }


@pytest.mark.parametrize("ending", ["ecsv", "csv", "fits", "parquet"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=12)
@given(data=st.data(), size=st.integers(1, 4))
def test_what_is_missing_stays_missing_and_the_rest_as_it_was(tmp_path, ending, data, size):
    columns = kinds(data.draw, size)
    output, part = tmp_path / f"o.{ending}", tmp_path / "part"
    write_part(pa.table(columns), part)
    assemble([part], {"whole": Column("km / s", "a speed", None)}, META, output)
    if ending == "parquet":  # astropy gives columns with nulls other types
        assert pq.read_table(output).to_pydict() == pa.table(columns).to_pydict()
        return
    table = Table.read(output, **({"format": "ascii.ecsv"} if ending == "csv" else {}))
    assert str(table["whole"].unit) == "km / s"
    for name, column in columns.items():
        found = np.ma.asarray(table[name])
        expected = [None if cell == [None, None] else cell for cell in column.to_pylist()]
        seen = [None if cell == [None, None] else cell for cell in found.tolist()]
        if name == "truth":  # a number in FITS, where truth values have no blank
            seen = [None if cell is None else bool(cell) for cell in seen]
        assert seen == expected, name


def test_fits_has_no_number_left_for_what_is_missing(tmp_path):
    part = tmp_path / "part"
    write_part(pa.table({"n": pa.array([-(2**15), 2**15 - 1, None], pa.int16())}), part)
    with pytest.raises(InputError, match="the column n has missing cells and both -32768 and 327"):
        assemble([part], {}, META, tmp_path / "o.fits")
    assert list(tmp_path.iterdir()) == [part]


@pytest.mark.filterwarnings(
    "ignore::astropy.units.UnitsWarning", "ignore:.*W50", "ignore:In merged column 'odd'"
)
def test_parquet_is_described_as_the_virtual_observatory_does(tmp_path):
    """By astropy's own reader of VOParquet, and of the VOTable within."""
    part, output = tmp_path / "part", tmp_path / "o.parquet"
    cells = {
        "row": [0, 1],
        "ra": [10.5, float("nan")],
        "v_hat": [1.0, 2.0],
        "flags": ["ok", "größer"],
        "p_D": numbers(np.full((2, 4), 0.25, np.float32)),
        "good": [True, False],
        "odd": [1.0, 2.0],
    }
    write_part(pa.table(cells), part)
    described = NUMBERS | TEXT_COLUMNS | {"odd": Column("furlong", "x < y & z", None)}
    assemble([part], described, META, output)
    about = pq.read_schema(output).metadata
    assert about[b"IVOA.VOTable-Parquet.version"] == b"1.0"
    content = about[b"IVOA.VOTable-Parquet.content"]
    assert b"<DATA>" not in content
    (votable,) = parse(io.BytesIO(content)).iter_tables()
    fields = {field.name: field for field in votable.fields}
    assert [*fields] == [*cells]
    assert (fields["ra"].ucd, str(fields["ra"].unit)) == ("pos.eq.ra;meta.main", "deg")
    assert fields["v_hat"].description == NUMBERS["v_hat"].description
    assert fields["odd"].description == "x < y & z"
    kinds = {name: (field.datatype, field.arraysize) for name, field in fields.items()}
    assert kinds["flags"] == ("unicodeChar", "12")
    assert kinds["p_D"] == ("float", "4")
    assert kinds["good"] == ("boolean", None)
    assert {info.name: info.value for info in votable.infos} == {**META, "H0": "70.0"}
    table = Table.read(output, format="parquet.votable")
    assert str(table["v_hat"].unit) == "km / s"
    assert table["v_hat"].description == NUMBERS["v_hat"].description
    for name in ("row", "v_hat", "flags", "odd"):
        assert table[name].tolist() == cells[name]
    assert fields_of_votable(content)["ra"].unit == "deg"


def test_words_of_the_virtual_observatory_are_words():
    for name, words in UCDS.items():
        assert check_ucd(words, check_controlled_vocabulary=True), name
    assert {*UCDS} < {*ALL_COLUMNS}
