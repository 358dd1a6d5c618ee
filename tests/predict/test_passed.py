"""A table of predictions repeats the columns of its catalogue, as they stand."""

import random
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, QTable, Table
from astropy.units import UnitsWarning
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders import champions
from builders.standin import small_standin
from builders.tables import WRITERS, write_catalogue
from peculiar.core.errors import InputError
from peculiar.galaxies.standin.simulation import make_broadband
from peculiar.predict.batch import predict_catalogue
from peculiar.predict.catalogue import chunks
from peculiar.predict.images import Files
from peculiar.predict.passed import passed_columns
from peculiar.predict.rows import ALL_COLUMNS, Job

ENDINGS = ("ecsv", "csv", "fits", "parquet")
OURS = {"id": [3, 3, 9], "cz_kms": [5250.0, 5300.0, 5400.0], "distance_mpc": [70.0, 80.0, 90.0]}
OTHERS = {
    "RA": [10.5, None, 30.25],
    "objid": [1237648720693755918, None, 2],
    "r_mag": [14.25, 15.5, None],
    "name": ["NGC 1", None, "a, b"],
    "code": ["007", "1", "12"],
}


@pytest.fixture(scope="module")
def predict(tmp_path_factory):
    """Predict a catalogue of one galaxy's images, and read the table."""
    folder = tmp_path_factory.mktemp("images")
    make_broadband(folder / "broadband_3.fits", 3, small_standin())
    champion = champions.mean_champion(
        network=champions.brightness_distribution,
        grid_mpc=champions.GRID,
        pixels=32,
        pixel_scale_arcsec=5.44,
    )

    def table(path, output, rows_at_once=2, columns=()):
        job = Job("m", "1", "", Files(folder, by_id=True), np.nan, None, columns=columns)
        predict_catalogue(champion, job, path, output, rows_at_once=rows_at_once)
        return read(output)

    return table


def read(path):
    forms = {".csv": "ascii.ecsv", ".ecsv": "ascii.ecsv"}
    return Table.read(path, **({"format": forms[path.suffix]} if path.suffix in forms else {}))


def cells(column):
    """Cells of a column read by astropy, None where it says that there is nothing."""
    values = [cell.decode() if isinstance(cell, bytes) else cell for cell in column.tolist()]
    return [None if value is None or value != value or value == "" else value for value in values]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("writer", WRITERS)
def test_all_columns_come_through_every_format(predict, tmp_path, writer, ending):
    path = write_catalogue(writer, OURS | OTHERS, tmp_path)
    table = predict(path, tmp_path / f"o.{ending}")
    ours = [name for name in ALL_COLUMNS if name in table.colnames]
    assert {"row", "cz", "D_p", "flags", "reason"} < {*ours}
    assert table.colnames[: len(ours)] == ours
    names = {"RA": "RA_in", "name": "name_in"}
    gaps_are_floats = ending == "parquet" or path.name.lower().endswith((".csv", ".tsv", ".csv.gz"))
    for given_name, expected in (OURS | OTHERS).items():
        found = cells(table[names.get(given_name, given_name)])
        if given_name == "objid" and gaps_are_floats:  # by pandas, which wrote or reads them
            found = [cell and float(cell) for cell in found]
            expected = [cell and float(cell) for cell in expected]
        assert found == expected, given_name
    meta = {key.lower(): value for key, value in table.meta.items()}
    assert meta["renamed"] == "RA is RA_in, name is name_in"
    assert cells(table["flags"])[2] == "unusable"  # there is no image 9, but its row is there


def test_whole_numbers_with_gaps_are_exact_in_parquet(predict, tmp_path):
    path = write_catalogue("parquet of arrow", OURS | OTHERS, tmp_path)
    predict(path, tmp_path / "o.parquet")
    assert pq.read_table(tmp_path / "o.parquet")["objid"].to_pylist() == OTHERS["objid"]


def columns_of_all_types():
    table = QTable()
    table["ID"], table["CZ_KMS"] = [3, 3, 3], [5250.0, 5300.0, 5400.0]
    table["distance_mpc"] = [70.0, 70.0, 70.0]
    table["mag"] = MaskedColumn(
        np.array([[1, 2], [3, 4], [5, 6]], ">f4"), unit="mag", description="in g and r"
    )
    table["sb"] = MaskedColumn([1.0, 2.0, 3.0], unit="mag / arcsec2", mask=[0, 1, 0])
    table["good"] = [True, False, True]
    table["count"] = MaskedColumn(np.array([7, 8, 65535], np.uint16), mask=[0, 0, 1])
    table["counts"] = np.array([[1, 2]] * 3, np.int16)
    return table


@pytest.mark.parametrize("given_as", ["fits", "ecsv", "parquet"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_units_descriptions_and_types_come_through(predict, tmp_path, given_as, ending):
    table = columns_of_all_types()
    if given_as == "parquet":  # astropy writes masks as columns
        table.remove_column("counts")
    path = tmp_path / f"given.{given_as}"
    table.write(path)
    if given_as == "fits":
        with fits.open(path, mode="update") as hdus:
            hdus[1].header["TCOMM4"] = "in g and r"
    found = predict(path, tmp_path / f"o.{ending}")
    assert str(found["sb"].unit) == "mag / arcsec2"
    assert found["D_p"].info.description == "distance predicted from the image"
    assert cells(found["good"]) == [True, False, True]
    assert [cell and int(cell) for cell in cells(found["count"])] == [7, 8, None]
    assert cells(found["sb"]) == [1, None, 3]
    if given_as == "ecsv":  # of several numbers a cell, as text
        assert cells(found["counts"]) == ["[1,2]"] * 3
    else:
        assert found["mag"].tolist() == [[1, 2], [3, 4], [5, 6]]
        assert found["mag"].dtype.newbyteorder("=") == np.float32
    assert found["mag"].info.description == "in g and r"
    assert found["ID"].info.description == "column ID of the input"


def test_what_no_table_holds_is_named(predict, tmp_path):
    columns = {"lists": [[1], [1, 2], []], "map": [{"a": 1}] * 3, "large": [1] * 3}
    arrays = {name: pa.array(cells) for name, cells in (OURS | columns).items()}
    arrays["large"] = pa.array([2**63] * 3, pa.uint64())
    pq.write_table(pa.table(arrays), tmp_path / "x.parquet")
    table = predict(tmp_path / "x.parquet", tmp_path / "o.ecsv")
    assert table.meta["left_out"] == "lists, map"
    assert table["large"].tolist() == [str(2**63)] * 3


def test_columns_given_by_another_name_pass_under_their_own(predict, tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("number;CZ;D\n3;5250;70\n3;5300;80\n")
    names = (("id", "number"), ("cz_kms", "CZ"), ("distance_mpc", "D"))
    table = predict(path, tmp_path / "o.parquet", columns=names)
    assert table["cz"].tolist() == table["CZ_in"].tolist() == [5250, 5300]
    assert table["D"].tolist() == [70, 80]
    path.write_text(",id,cz_kms,distance_mpc\n7,3,5250,70\n")  # pandas names no index
    assert predict(path, tmp_path / "o.ecsv")["column_1"].tolist() == [7]


def test_rows_that_cannot_be_read_have_no_cells(predict, tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("id,cz_kms,distance_mpc,n\n3,5250,70,5\n3,5250\n3,5250,70,6\n")
    table = predict(path, tmp_path / "o.fits")
    assert cells(table["n"]) == [5, None, 6]
    assert "bad_row" in cells(table["flags"])[1]


@pytest.mark.parametrize("ending", ENDINGS)
def test_odd_names_and_units_are_written(predict, tmp_path, ending):
    path = tmp_path / "x.ecsv"
    table = Table({"id": [3], "cz_kms": [5250.0], "größe": [1.5], " b\tc": [2]})
    table["größe"].unit = "furlong per week"
    table["größe"].description = "ñ\nand more"
    table.write(path, format="ascii.ecsv")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnitsWarning)
        found = predict(path, tmp_path / f"o.{ending}")
    name = "gr\\xf6\\xdfe" if ending == "fits" else "größe"
    assert found[name].tolist() == [1.5]
    assert "furlong" in str(found[name].unit)
    assert "and more" in found[name].info.description
    assert found["b\\tc"].tolist() == [2]


def test_an_output_can_be_an_input(predict, tmp_path):
    """Names that are taken get one suffix more, so nothing is lost and nothing stands twice."""
    path = write_catalogue("ecsv", OURS | OTHERS, tmp_path)
    prior = (("v_prior_kms", "v_prior"), ("v_prior_error_kms", "v_prior_error"))
    for ending in ("fits", "parquet", "csv"):
        table = predict(path, tmp_path / f"again.{ending}", columns=prior * (ending != "fits"))
        path = tmp_path / f"again.{ending}"
    assert {"D_p", "D_p_in", "D_p_in_in"} <= {*table.colnames}
    lower = [name.lower() for name in table.colnames]
    assert len({*lower}) == len(lower)
    np.testing.assert_array_equal(table["D_p"], table["D_p_in_in"])


def test_a_column_twice_is_refused_before_anything_is_written(predict, tmp_path):
    path = tmp_path / "x.csv"
    for header, said in (
        ("id,cz_kms,a,a", "the column a"),
        ("id,cz_kms,,", "a column without"),
    ):
        path.write_text(f"{header}\n3,5250,1,2\n")
        with pytest.raises(InputError, match=f"has {said}.*more than once: keep one, or name them"):
            predict(path, tmp_path / "o.csv")
    assert list(tmp_path.iterdir()) == [path]


def test_a_catalogue_that_loses_a_column_or_rows_is_refused(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("id,cz_kms,a\n3,5250,1\n")
    passed = passed_columns(path, [])
    path.write_text("id,cz_kms\n3,5250\n")
    with pytest.raises(InputError, match="has lost a column while it is read: wait until it is w"):
        next(passed.tables(9))


LARGE = [str(2**60), str(2**63), "9" * 5000]
WORDS = [*LARGE, "1e999", "٣", "", "nan", "NA", "-", "1", "-7", "007", "1.50", "1e3", "inf"]
WORDS += ["true", "False", "x", "1_0"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(column=st.lists(st.sampled_from(WORDS), min_size=1, max_size=4))
def test_text_is_a_number_only_if_nothing_is_lost(tmp_path, column):
    """A column of text comes back as it stands, or as numbers that say the same."""
    path = tmp_path / "x.csv"
    path.write_text("\n".join(["id,cz_kms,c", *(f"3,5250,{cell}" for cell in column)]))
    passed = passed_columns(path, [])
    (table,) = passed.tables(99)
    kind, found = table.schema.field("c").type, table["c"].to_pylist()
    missing = {"", "nan", "na", "-"}
    for cell, value in zip(column, found, strict=True):
        if pa.types.is_string(kind):
            assert value == cell
        elif cell.lower() in missing:
            assert value is None
        elif pa.types.is_boolean(kind):
            assert str(value).lower() == cell.lower()
        elif pa.types.is_integer(kind):
            assert str(value) == cell
        else:
            assert value == float(cell)
    left = {cell for cell in column if cell.lower() not in missing}
    if (
        left & {"007", "x", "1_0", "٣", "1e999", *LARGE[1:]}
        or (left & {"true", "False"} and left - {"true", "False"})
        or (str(2**60) in left and left & {"1.50", "1e3", "inf"})
    ):
        assert pa.types.is_string(kind)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.filterwarnings("ignore")
def test_damaged_catalogues_pass_or_are_one_sentence(tmp_path, writer):
    path, dice = write_catalogue(writer, OURS | OTHERS, tmp_path), random.Random(writer)
    good = path.read_bytes()
    for _ in range(20):
        content = bytearray(good)
        for at in dice.sample(range(len(content)), 3):
            content[at] = dice.choice([0, 45, 48, 255, dice.randrange(256)])
        path.write_bytes(content)
        said, passed, read = "", 0, 0
        try:
            passed = sum(len(table) for table in passed_columns(path, []).tables(2))
            read = sum(len(rows) for rows in chunks(path, 2))
        except InputError as error:
            said = str(error)
        assert "\n" not in said
        assert said or passed == read
