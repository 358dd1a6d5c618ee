"""Tables are whole or not there, and the same in each format."""

import numpy as np
import pandas
import pyarrow as pa
import pytest
from astropy.table import QTable
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from peculiar.core.files import replace_file
from peculiar.predict.columns import Column
from peculiar.predict.tables import assemble, printable, texts, write_part

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
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
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
