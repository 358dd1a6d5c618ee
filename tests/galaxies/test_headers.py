"""Headers that promise what is not there are refused before astropy allocates anything."""

import contextlib
import gzip
import time

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from builders.layouts import skirt
from peculiar.cli.main import main
from peculiar.cli.options import keep_inputs
from peculiar.core.errors import InputError
from peculiar.galaxies import headers
from peculiar.galaxies.fits import open_fits

SECONDS = 5.0  # a bad header is refused at once; the machine may be loaded


def card(key, value):
    return f"{key:8}= {value:>20}".ljust(80).encode()


def header(*cards):
    return b"".join([*cards, b"END".ljust(80)]).ljust(2880)


def primary(**changes):
    """A FITS file of one image of 2 x 3 float32 pixels, with changed, added or removed cards."""
    cards = {"SIMPLE": "T", "BITPIX": -32, "NAXIS": 2, "NAXIS1": 2, "NAXIS2": 3} | changes
    return header(*(card(k, v) for k, v in cards.items() if v is not None)) + bytes(2880)


def table(**changes):
    """A FITS file with an empty primary HDU and a table of one float64 in two rows."""
    cards = {"XTENSION": "'BINTABLE'", "BITPIX": 8, "NAXIS": 2, "NAXIS1": 8, "NAXIS2": 2}
    cards |= {"PCOUNT": 0, "GCOUNT": 1, "TFIELDS": 1, "TFORM1": "'1D'", "TTYPE1": "'A'"} | changes
    first = header(card("SIMPLE", "T"), card("BITPIX", 8), card("NAXIS", 0))
    return first + header(*(card(k, v) for k, v in cards.items() if v is not None)) + bytes(2880)


def refused(tmp_path, content, name="a.fits"):
    path = tmp_path / name
    path.write_bytes(content)
    begin = time.monotonic()
    with pytest.raises(InputError) as refusal, open_fits(path):
        pass
    assert time.monotonic() - begin < SECONDS
    assert str(refusal.value).startswith(f"{path} ")
    assert "\n" not in str(refusal.value)
    return str(refusal.value).removeprefix(f"{path} ")


def test_the_builders_are_valid(tmp_path):
    for content in (primary(), table()):
        (tmp_path / "a.fits").write_bytes(content)
        with open_fits(tmp_path / "a.fits") as hdus:
            assert len(hdus[-1].data) in (2, 3)


HUGE = 10**18
BAD = [
    (primary(SIMPLE="F"), "HDU 0 has SIMPLE = False, so it may be anything"),
    (primary(SIMPLE="'T'"), "HDU 0 has SIMPLE = 'T', so it may be anything"),
    (primary(NAXIS=2147483648), "HDU 0 has NAXIS = 2147483648, not a whole number from 0 to 999"),
    (primary(NAXIS=-1), "HDU 0 has NAXIS = -1, not a whole number from 0 to 999"),
    (primary(NAXIS="T"), "HDU 0 has NAXIS = True, not a whole number"),
    (primary(NAXIS="2.5"), "HDU 0 has NAXIS = 2.5, not a whole number"),
    (primary(NAXIS="'two'"), "HDU 0 has NAXIS = 'two', not a whole number"),
    (primary(NAXIS=None), "HDU 0 has NAXIS = None, not a whole number"),
    (primary(NAXIS=999), "HDU 0 has NAXIS3 = None, not a whole number from 0 on"),
    (primary(NAXIS1=-5), "HDU 0 has NAXIS1 = -5, not a whole number from 0 on"),
    (primary(NAXIS2=None), "HDU 0 has NAXIS2 = None, not a whole number from 0 on"),
    (primary(NAXIS1=2**64), f"HDU 0 has NAXIS1 = {2**64}, not a whole number"),
    (primary(NAXIS1=HUGE, NAXIS2=HUGE), "HDU 0 promises an image of 4e+36 bytes, more than"),
    (primary(BITPIX=31), "HDU 0 has BITPIX = 31, not one of 8, 16, 32, 64, -32, -64"),
    (primary(BITPIX=0), "HDU 0 has BITPIX = 0, not one of"),
    (primary(BITPIX=-(2**31)), "HDU 0 has BITPIX = -2147483648, not a whole number from -64 to 64"),
    (primary(PCOUNT=-1), "HDU 0 has PCOUNT = -1, not a whole number from 0 on"),
    (primary(PCOUNT=HUGE), "HDU 0 promises an image of 4e+18 bytes, more than 1073741824"),
    (primary(GCOUNT=HUGE), "HDU 0 promises an image of 2.4e+19 bytes, more than 1073741824"),
    (primary(GCOUNT="'x'"), "HDU 0 has GCOUNT = 'x', not a whole number from 0 on"),
    (primary(BSCALE=0), "HDU 0 has BSCALE = 0, which is no scale"),
    (primary(BSCALE="0.0"), "HDU 0 has BSCALE = 0.0, which is no scale"),
    (primary(BSCALE="NaN"), "HDU 0 has an unreadable BSCALE"),
    (primary(BSCALE="1E999"), "HDU 0 has BSCALE = inf, which is no scale"),
    (primary(BSCALE="'1'"), "HDU 0 has BSCALE = '1', which is no scale"),
    (primary(BZERO="-1E999"), "HDU 0 has BZERO = -inf, which is no scale"),
    (primary(BZERO="F"), "HDU 0 has BZERO = False, which is no scale"),
    (table(NAXIS2=-2), "HDU 1 has NAXIS2 = -2, not a whole number from 0 on"),
    (table(PCOUNT=-1), "HDU 1 has PCOUNT = -1, not a whole number from 0 on"),
    (table(TSCAL1=0), "HDU 1 has TSCAL1 = 0, which is no scale"),
    (table(TZERO1="1E999"), "HDU 1 has TZERO1 = inf, which is no scale"),
    (table(ZIMAGE="T", ZBITPIX=8, ZNAXIS=2147483648), "HDU 1 has ZNAXIS = 2147483648, not a"),
    (table(ZIMAGE="T", ZBITPIX=8, ZNAXIS=1, ZNAXIS1=HUGE), "HDU 1 promises an image of 1e+18 byt"),
    (primary()[:80] + card("NAXIS1", 7) + primary()[80:], "HDU 0 has NAXIS1 twice"),
    (primary().replace(b"END     ", b"ENDE    "), "HDU 0 has no END card"),
    (primary()[:300], "HDU 0 has no END card"),
    (
        primary()[:2880].replace(b"END     ", b"        ") + b" " * 4_000_000,
        "HDU 0 has no END card in",
    ),
    (primary() + b"XTENSION= 'IMAGE   '", "HDU 1 has no END card"),
    (primary() + bytes(50_000), "more than 28800 bytes after its last HDU are no FITS"),
    (b"", "HDU 0 has no END card"),
    (b"SIMPLE", "HDU 0 has no END card"),
]


@pytest.mark.parametrize(("content", "reason"), BAD, ids=range(len(BAD)))
@pytest.mark.parametrize("zipped", [False, True])
def test_a_bad_header_is_refused_in_one_sentence(tmp_path, content, reason, zipped):
    if zipped:
        content = gzip.compress(content, 1)
    said = refused(tmp_path, content)
    assert said.startswith(f"is not a complete FITS file ({reason}"), said
    assert said.endswith("): delete it and fetch it again")


@pytest.mark.parametrize(
    ("content", "missing"),
    [(table(NAXIS2=HUGE), 8 * HUGE), (primary()[:-2880], 2880)],
    ids=range(2),
)
def test_data_that_are_missing_are_counted(tmp_path, content, missing):
    said = refused(tmp_path, content)
    assert abs(int(said.split()[2]) - missing) <= 2880
    assert said.startswith("is truncated, ")


def test_too_many_hdus_are_refused(tmp_path):
    more = header(card("XTENSION", "'IMAGE'"), card("BITPIX", 8), card("NAXIS", 0))
    said = refused(tmp_path, primary() + 1000 * more)
    assert said.startswith("is not a complete FITS file (it has more than 1000 HDUs)")


def test_little_after_the_last_hdu_does_no_harm(tmp_path):
    (tmp_path / "a.fits").write_bytes(primary() + bytes(28_800))
    with open_fits(tmp_path / "a.fits") as hdus:
        assert len(hdus) == 1


def bomb(content):
    """Some content and 4 GB of zeros, compressed: members of a gzip file follow each other."""
    return gzip.compress(content) + 128 * gzip.compress(bytes(2**25), 1)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "(HDU 0 has no END card in its first 2880000 bytes)"),
        (primary(), "(more than 28800 bytes after its last HDU are no FITS)"),
        (primary(NAXIS1=10**6, NAXIS2=10**6)[:2880], "(HDU 0 promises an image of 4e+12 bytes"),
        (table(NAXIS2=10**12)[:5760], "(it would be larger than 2147483648 bytes when decompre"),
    ],
    ids=range(4),
)
def test_a_gzip_bomb_is_refused_before_it_is_decompressed(tmp_path, content, reason):
    assert reason in refused(tmp_path, bomb(content), "a.fits.gz")


def test_no_more_is_decompressed_than_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(headers, "LARGEST_UNZIPPED_BYTES", 10_000)
    content = gzip.compress(primary() + primary().replace(b"SIMPLE  =", b"XTENSION=") + bytes(2880))
    assert "larger than 10000 bytes when decompressed" in refused(tmp_path, content)


@given(
    key=st.sampled_from(["BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "PCOUNT", "GCOUNT", "BSCALE"]),
    value=st.one_of(
        st.integers(-(2**70), 2**70),
        st.floats().map(lambda x: repr(x).upper()),
        st.sampled_from(["T", "F", "''", "'x'", "", "(1, 2)"]),
    ),
    make=st.sampled_from([primary, table]),
)
@example(key="BSCALE", value="3.4028235677973366E+38", make=primary)  # infinite as a float32
def test_any_value_is_refused_or_read_at_once(tmp_path_factory, key, value, make):
    path = tmp_path_factory.mktemp("any") / "a.fits"
    path.write_bytes(make(**{key: value}))
    begin = time.monotonic()
    with contextlib.suppress(InputError), open_fits(path) as hdus:
        with np.errstate(over="ignore", invalid="ignore"):  # as `pixels` has it
            data = [hdu.data for hdu in hdus if hdu.data is not None]
        assert sum(array.nbytes for array in data) <= path.stat().st_size
    assert time.monotonic() - begin < SECONDS


@pytest.mark.parametrize("command", ["inspect", "place"])
def test_commands_refuse_a_bad_header(tmp_path, command):
    path = skirt(tmp_path)
    whole = path.read_bytes()
    start = whole.index(b"NAXIS   =")
    path.write_bytes(whole[:start] + card("NAXIS", 2147483648) + whole[start + 80 :])
    extra = ["--output", str(tmp_path / "a.png")] if command == "place" else []
    with pytest.raises(SystemExit, match="HDU 0 has NAXIS = 2147483648, not a whole number"):
        main([command, str(path), *extra])


@pytest.mark.parametrize("content", [primary(), primary(NAXIS=2147483648)], ids=range(2))
def test_an_output_never_replaces_an_image_or_a_damaged_one(tmp_path, content):
    path = tmp_path / "out.fits"
    path.write_bytes(content)
    with pytest.raises(InputError, match="holds an image, which would be lost"):
        keep_inputs(path, [])
    path.write_bytes(table())
    keep_inputs(path, [])
    path.write_bytes(b"text")
    keep_inputs(path, [])
