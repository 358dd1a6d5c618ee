"""What a file says is missing is missing, in each format and in columns of each type."""

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders.tables import WRITERS, write_catalogue
from peculiar.predict.catalogue import chunks, is_catalogue

MADE = {
    int: st.integers(1, 30000),
    float: st.integers(1, 30000).map(lambda n: n / 4),
    str: st.integers(1, 30000).map(str),
}
COLUMNS = ("id", "cz_kms", "cz_error_kms", "distance_mpc", "camera")


@st.composite
def tables(draw):
    """Columns of one type each, with missing cells, and one known cell at least."""
    rows = draw(st.integers(2, 5))
    columns = {}
    for name in COLUMNS:
        kind = draw(st.sampled_from([int, float, str]))
        cells = st.none() | (MADE[int].map(kind) if name in ("id", "camera") else MADE[kind])
        columns[name] = [
            draw(MADE[int].map(kind)),
            *draw(st.lists(cells, min_size=rows, max_size=rows)),
        ]
    return columns


def value(cell):
    return math.nan if cell is None else float(cell)


@pytest.mark.parametrize("writer", WRITERS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=5)
@given(columns=tables())
def test_a_missing_cell_is_missing_and_no_number(tmp_path, writer, columns):
    path = write_catalogue(writer, columns, tmp_path)
    assert is_catalogue(path)
    ((rows),) = chunks(path, 99)
    assert len(rows) == len(columns["id"])
    for k, row in enumerate(rows):
        cell = {name: cells[k] for name, cells in columns.items()}
        whole = "" if cell["id"] is None else str(int(float(cell["id"])))
        assert row.name == whole
        for name in ("cz_kms", "cz_error_kms", "distance_mpc"):
            assert getattr(row, name) == pytest.approx(value(cell[name]), nan_ok=True)
        assert ("no_cz" in row.flags) == (cell["cz_kms"] is None)
        assert ("bad_cz" in row.flags) == (cell["cz_error_kms"] is None)
        assert row.camera == (-1 if cell["camera"] is None else int(float(cell["camera"])))
