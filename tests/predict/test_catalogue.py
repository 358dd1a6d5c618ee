"""Rows of a catalogue come back as they are in each format, or one sentence refuses the file."""

import gzip
import math

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, QTable, Table
from astropy.utils.masked import Masked
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from peculiar.core.errors import InputError
from peculiar.predict.catalogue import Row, chunks, has_paths, is_catalogue

FORMATS = {"csv": "ascii.csv", "ecsv": "ascii.ecsv", "fits": "fits", "parquet": "parquet"}


def rows_of(path, size=2, **options):
    return [row for chunk in chunks(path, size, **options) for row in chunk]


@pytest.mark.parametrize("ending", FORMATS)
def test_all_formats_hold_the_same_rows(tmp_path, ending):
    table = Table(
        {
            "PATH": ["a b.fits", "c.fits", "d.fits"],
            "CZ_KMS": [5000.0, np.nan, -200.0],
            "cz_error_kms": [10.0, 20.0, 0.0],
            "camera": [0, 3, 1],
            "other": [1, 2, 3],
        }
    )
    path = tmp_path / f"x y.{ending}"
    table.write(path, format=FORMATS[ending])
    assert list(map(len, chunks(path, 2))) == [2, 1]
    assert is_catalogue(path)
    assert has_paths(path)
    first, second, third = rows_of(path)
    assert first == Row(0, "a b.fits", 0, 5000.0, 10.0, pytest.approx(math.nan, nan_ok=True))
    assert (second.name, second.camera, second.flags) == ("c.fits", 3, ("no_cz",))
    assert (third.number, third.cz_kms, third.cz_error_kms, third.flags) == (2, -200, 0, ())


@pytest.mark.parametrize("ending", FORMATS)
def test_frames_and_positions_are_read_or_said_to_be_unusable(tmp_path, ending):
    table = Table(
        {
            "id": [1, 2, 3, 4, 5],
            "cz_kms": [5e3] * 5,
            "cz_frame": ["heliocentric", "CMB", "", "galactic", "lg"],
            "RA": [10.0, np.nan, 20.0, 30.0, 400.0],
            "Dec": [-5.0, 0.0, 0.0, 90.0, 0.0],
        }
    )
    path = tmp_path / f"x.{ending}"
    table.write(path, format=FORMATS[ending])
    rows = list(rows_of(path))
    assert [row.frame for row in rows] == ["heliocentric", "cmb", "unknown", "unknown", "lg"]
    at = [(row.ra_deg, row.dec_deg) for row in rows]
    np.testing.assert_equal(at, [(10, -5), (np.nan, 0), (20, 0), (30, 90), (np.nan, 0)])
    assert rows[3].reason == "its cz_frame 'galactic' is none of heliocentric, lg, cmb"
    assert rows[4].reason.replace("'", "") == "its ra 400.0 cannot be used"
    assert [row.reason for row in rows[:3]] == ["", "", ""]
    assert {flag for row in rows for flag in row.flags} == set()


@pytest.mark.parametrize("unit", [u.hourangle, u.rad])
def test_positions_with_a_unit_are_converted(tmp_path, unit):
    path = tmp_path / "x.ecsv"
    at = ([45.0] * u.deg).to(unit)
    QTable({"id": [1], "cz_kms": [5e3], "ra": at, "dec": at}).write(path)
    (row,) = rows_of(path)
    assert (row.ra_deg, row.dec_deg) == pytest.approx((45, 45))


@pytest.mark.parametrize("camera", [-1.0, 0.5, 2.0**31, 1e300, np.inf])
@pytest.mark.parametrize("ending", FORMATS)
def test_a_camera_is_a_whole_number_that_fits_the_table(tmp_path, ending, camera):
    path = tmp_path / f"x.{ending}"
    Table({"id": [7], "cz_kms": [5e3], "camera": [camera]}).write(path, format=FORMATS[ending])
    (row,) = rows_of(path)
    assert row.camera == -1
    assert row.reason.startswith("its camera ")
    assert row.reason.endswith(" cannot be used")


@pytest.mark.parametrize("ending", ["ecsv", "fits", "parquet"])
def test_units_are_converted_or_refused(tmp_path, ending):
    table = Table({"id": [7], "cz_kms": [5e6] * u.m / u.s, "distance_mpc": [70000.0] * u.kpc})
    path = tmp_path / f"x.{ending}"
    table.write(path, format=FORMATS[ending])
    (row,) = rows_of(path)
    assert (row.name, row.cz_kms, row.distance_mpc) == ("7", pytest.approx(5000), 70)
    assert not has_paths(path)
    table["cz_kms"].unit = u.Mpc
    table.write(path, format=FORMATS[ending], overwrite=True)
    with pytest.raises(InputError, match="cz_kms in 'Mpc', which is not km / s: correct the unit"):
        rows_of(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.csv", None, "is missing"),
        ("x.csv", b"", "has no column path or id"),
        ("x.csv", b"path,z\na.fits,0.1\n", "has no column cz_kms: add it"),
        ("x.csv", b"cz_kms\n5000\n", "has no column path or id"),
        ("x.csv", b"path,cz_kms\n", "has no rows"),
        ("x.csv", b"id,cz_kms,CZ_kms\n1,2,3\n", "has the column cz_kms more than once: keep one"),
        ("x.ecsv", b"# %ECSV 1.0\n# ---\n# {datatype: [\npath cz_kms\n", "has a damaged header"),
        ("x.csv", b'path,cz_kms\n"' + b"a" * 200_000, "is no CSV at line 2"),
        ("x.parquet", b"PAR1 and no more", "cannot be read"),
        ("x.fits", b"no FITS", "is not a FITS file"),
        ("x.fits.gz", gzip.compress(b"SIMPLE", mtime=0)[:10], "is not a complete FITS file"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as stop:
        rows_of(path)
    assert "\n" not in str(stop.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(content=st.binary(max_size=300), ending=st.sampled_from(["csv", "ecsv", "parquet", "fits"]))
@example(content=b"SIMPLE  =                    T", ending="fits")
@example(content=b"path,cz_kms\n\xff\x00,1e999\n", ending="csv")
def test_random_bytes_are_rows_or_one_sentence(tmp_path, content, ending):
    path = tmp_path / f"x.{ending}"
    path.write_bytes(content)
    try:
        rows = rows_of(path)
    except InputError as error:
        rows = [] if "\n" not in str(error) else None
    assert rows is not None
    if rows:
        assert [row.number for row in rows] == list(range(len(rows)))


def test_a_truncated_table_is_refused(tmp_path):
    table = Table({"path": ["a.fits"] * 2000, "cz_kms": np.arange(2000.0)})
    for ending in ("fits", "parquet"):
        path = tmp_path / f"x.{ending}"
        table.write(path, format=FORMATS[ending])
        path.write_bytes(path.read_bytes()[:-3000])
        with pytest.raises(InputError, match=r"is truncated|cannot be read"):
            rows_of(path)


@pytest.mark.parametrize("ending", ["ecsv", "fits", "parquet"])
def test_masked_cells_are_empty(tmp_path, ending):
    cz = MaskedColumn([5250.0, 5600.0], mask=[False, True])
    table = Table({"id": MaskedColumn([3, 4], mask=[False, True]), "cz_kms": cz})
    path = tmp_path / f"x.{ending}"
    table.write(path, format=FORMATS[ending])
    first, second = rows_of(path)
    assert (first.name, first.cz_kms, first.flags) == ("3", 5250, ())
    assert (math.isnan(second.cz_kms), second.flags) == (True, ("no_cz",))
    assert second.name == "" or ending == "fits"


def test_ids_that_were_made_floats_are_whole_numbers(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("id,cz_kms\n0.0,5250\n12.0,5600\n,4900\nnan,1\n")
    assert [row.name for row in rows_of(path)] == ["0", "12", "", "nan"]
    table = Table({"id": [0.0, 12.0, math.nan], "cz_kms": [1.0, 2, 3]})
    table.write(tmp_path / "x.parquet")
    assert [row.name for row in rows_of(tmp_path / "x.parquet")] == ["0", "12", ""]


def test_tables_of_topcat_and_vizier_are_catalogues(tmp_path):
    """TOPCAT writes a text into the primary HDU, VizieR an ASCII table."""
    table = fits.BinTableHDU(Table({"id": [0, 1], "cz_kms": [5250.0, 5600.0]}))
    text = np.frombuffer(b"<?xml version='1.0'?><VOTABLE/>", dtype="u1")
    fits.HDUList([fits.PrimaryHDU(text), table]).writeto(tmp_path / "topcat.fits")
    columns = [
        fits.Column("id", "I4", ascii=True, array=[0, 1]),
        fits.Column("cz_kms", "F9.2", ascii=True, array=[5250.0, 5600.0]),
    ]
    ascii_table = fits.TableHDU.from_columns(fits.ColDefs(columns))
    fits.HDUList([fits.PrimaryHDU(), ascii_table]).writeto(tmp_path / "vizier.fits")
    for name in ("topcat.fits", "vizier.fits"):
        assert is_catalogue(tmp_path / name)
        assert [(row.name, row.cz_kms) for row in rows_of(tmp_path / name)] == [
            ("0", 5250),
            ("1", 5600),
        ]


def test_an_empty_error_is_unknown_and_not_zero(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("id,cz_kms,cz_error_kms\n0,5250,\n1,5250,0\n")
    unknown, none = rows_of(path)
    assert math.isnan(unknown.cz_error_kms)
    assert (unknown.cz_kms, unknown.flags) == (5250, ("bad_cz",))
    assert unknown.reason == "it has no cz_error_kms (write 0 for none)"
    assert (none.cz_error_kms, none.flags) == (0, ())
    path.write_text("id,cz_kms\n0,5250\n")
    assert rows_of(path)[0].cz_error_kms == 0


def test_cells_that_fits_or_ecsv_mask_are_missing(tmp_path):
    """TNULL of FITS, and the columns NAME.mask of ECSV, as astropy and TOPCAT write them."""
    table = Table({"id": [1, 2], "cz_kms": [5000, -9999], "cz_error_kms": [30, 0]}, masked=True)
    table["cz_kms"].mask = table["cz_error_kms"].mask = [False, True]
    table["cz_kms"].fill_value, table["cz_error_kms"].fill_value = -9999, 0
    table.write(tmp_path / "a.fits")
    quantities = QTable({"id": [1, 2]})
    for name, values in (("cz_kms", [5000.0, 6000.0]), ("cz_error_kms", [30.0, 0.0])):
        quantities[name] = Masked(values * u.km / u.s, mask=[False, True])
    quantities.write(tmp_path / "a.ecsv", serialize_method="data_mask")
    for name in ("a.fits", "a.ecsv"):
        ((good, hidden),) = chunks(tmp_path / name, 9)
        assert (good.cz_kms, good.cz_error_kms, good.flags) == (5000, 30, ()), name
        assert np.isnan([hidden.cz_kms, hidden.cz_error_kms]).all(), name
        assert hidden.flags, name


TEXT = b"N;CZ;REDSHIFT;frame\n7;5250;0.0175;cmb\n"


def test_columns_are_called_as_the_file_calls_them(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(TEXT)
    (row,) = next(chunks(path, 9, {"id": "N", "cz_kms": "CZ", "cz_frame": "frame"}))
    assert (row.name, row.cz_kms, row.frame, row.flags) == ("7", 5250, "cmb", ())
    assert not has_paths(path, {"id": "N", "cz_kms": "CZ"})
    (row,) = next(chunks(path, 9, {"id": "N", "z": "REDSHIFT"}))
    assert row.cz_kms == pytest.approx(0.0175 * 299792.458, rel=1e-12)


@pytest.mark.parametrize("ending", ["ecsv", "fits", "parquet"])
def test_a_redshift_without_a_unit_is_multiplied_by_the_speed_of_light(tmp_path, ending):
    path = tmp_path / f"x.{ending}"
    table = QTable({"id": [1, 2, 3], "z": [0.01, np.nan, 1.5]})
    table.write(path)
    rows = rows_of(path, columns={"z": "z"})
    assert [row.flags for row in rows] == [(), ("no_cz",), ("bad_cz",)]
    assert rows[0].cz_kms == pytest.approx(2997.92458)
    with pytest.raises(InputError, match="has no column cz_kms"):  # z may be a magnitude
        rows_of(path)
    table["z"].unit = u.mag
    table.write(path, overwrite=True)
    with pytest.raises(InputError, match="has z in 'mag', which is not a plain number: correct"):
        rows_of(path, columns={"z": "z"})


@pytest.mark.parametrize(
    ("header", "columns", "message"),
    [
        ("id,v", {"cz_kms": "CZ"}, "has no column CZ, which --column cz_kms=CZ names: give one of"),
        ("id,cz_kms,CZ", {"cz_kms": "CZ"}, "has a column cz_kms, and --column cz_kms=CZ is given"),
        ("id,Cz_kms,CZ", {"cz_kms": "CZ"}, "has a column Cz_kms, and --column cz_kms=CZ is given"),
        ("id,cz_kms,Z", {"z": "Z"}, "has a column cz_kms, and --column z is given: give one of"),
        ("id,v,Z", {"z": "Z", "cz_kms": "v"}, "--column z is given: give one of them"),
        ("id,Z,z_err", {"z": "Z"}, "column z_err, and --column z is given: add this error times"),
    ],
)
def test_names_that_do_not_fit_the_file_are_refused(tmp_path, header, columns, message):
    path = tmp_path / "x.csv"
    path.write_text(f"{header}\n{','.join('1' * len(header.split(',')))}\n")
    with pytest.raises(InputError, match=message) as stop:
        rows_of(path, columns=columns)
    assert "\n" not in str(stop.value)


def test_a_column_given_by_another_name_is_not_missed(tmp_path):
    """A name much like one of ours that is absent refuses the file, but not if it is given."""
    path = tmp_path / "x.csv"
    path.write_text("id,cz_kms,cz_err_kms\n1,5250,30\n")
    (row,) = rows_of(path, columns={"cz_error_kms": "cz_err_kms"})
    assert row.cz_error_kms == 30
