"""Seeded mutations of catalogues in each format, and what becomes of each.

A row is *changed without a flag* when it has no flag and is no row of the file before its mutation.
No format without a check sum can tell that it is another valid file: a number in place of a number,
other letters in a name, a column renamed to one that is not ours. So the rule is, for each kind:

cells
    A cell becomes one of `NASTY`, which are no numbers. That row is flagged, or, if the cell is a
    distance that is missing, has none; or the file is refused. All other rows are as they were.
cut
    The file ends early. No row is changed but the last, whose last cell the cut may shorten.
swapped
    Lines (or blocks of 80 bytes, in files without lines) are swapped, dropped or doubled. No row of
    text with a line a row is changed; in other formats this makes another valid file.
flipped
    Bits are flipped. Changed rows are counted (`other file`).

Where the format has a check sum of the whole file (gzip, FITS with CHECKSUM), no row is changed by
any of them. No mutation gives a traceback, a hang, or a row without a number and without a flag.

`python -m pytest -n 0 -s -m torture tests/system/test_fuzz_tables.py` prints the counts.
"""

import faulthandler
import math
import random
import warnings
from collections import Counter

import pytest
from astropy.io import fits
from astropy.table import Table

from builders.tables import WRITERS, write_catalogue
from peculiar.core.errors import InputError
from peculiar.predict.catalogue import chunks, is_catalogue

SECONDS = 20  # for one input; a hang ends the process with all stacks
ROWS = 12
NASTY = [
    *("5_012", "٥٠١٢", "５０１２", "5012,5", "0x1F4", "1e999", "inf", "-", "--", "NULL", "N/A"),
    *("nan", "", " ", '"', "'", "a,b", "a;b", "\t", "\\", "#", "\x00", "\x85", "=1+1", "True"),
    *("5012 km/s", "1e", "--5", "5.0.1", "²", "x" * 300, "None", "[5000]", "{}", "&amp;", "|"),
]
TEXT = [name for name in WRITERS if name.startswith(("csv", "tsv", "ecsv", "ipac", "votable"))]
SUMMED = ["csv.gz", "fits.gz", "votable.gz", "fits with CHECKSUM"]
A_LINE_A_ROW = [name for name in TEXT if not name.startswith("votable")]
COLUMNS = {
    "id": [k + 11 for k in range(ROWS)],
    "cz_kms": [5000.25 + 7 * k for k in range(ROWS)],
    "cz_error_kms": [30.5] * ROWS,
    "distance_mpc": [70.125 + k for k in range(ROWS)],
}


def write(form, folder):
    """A good catalogue in one of the formats."""
    if form == "fits with CHECKSUM":
        fits.BinTableHDU(Table(COLUMNS)).writeto(folder / "x.fits", checksum=True, overwrite=True)
        return folder / "x.fits"
    return write_catalogue(form, COLUMNS, folder)


def values(row):
    return (row.name, row.cz_kms, row.cz_error_kms, row.distance_mpc, row.camera)


def read(path):
    """Rows of a catalogue, or the sentence that refuses it."""
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert is_catalogue(path) or path.suffix.lower() in (".fits", ".fit", ".gz")
            return [row for chunk in chunks(path, 5) for row in chunk]
    except InputError as error:
        return str(error)
    finally:
        faulthandler.cancel_dump_traceback_later()


def is_sentence(rows, path):
    if not isinstance(rows, str):
        return False
    assert "\n" not in rows
    assert str(path) in rows
    return True


def flip(content, rng):
    for _ in range(rng.choice([1, 1, 2, 8])):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return content


def cut(content, rng):
    return content[: rng.randrange(len(content))]


def swap(content, rng):
    """Lines swapped, dropped or doubled; blocks, in a file without lines."""
    lines = content.split(b"\n")
    if len(lines) < 5:
        lines = [content[k : k + 80] for k in range(0, len(content), 80)]
        joint = b""
    else:
        joint = b"\n"
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    how = rng.choice(["swap", "drop", "double"])
    if how == "swap":
        lines[one], lines[other] = lines[other], lines[one]
    elif how == "drop":
        del lines[one]
    else:
        lines.insert(other, lines[one])
    return bytearray(joint.join(lines))


BYTES = {"flipped": flip, "cut": cut, "swapped": swap}


def of_bytes(form, kind, rng, folder, good):
    """What becomes of a file whose bytes are mutated."""
    path = write(form, folder)
    path.write_bytes(bytes(BYTES[kind](bytearray(path.read_bytes()), rng)))
    rows = read(path)
    if is_sentence(rows, path):
        return "sentence"
    before = {values(row) for row in good}
    new = [row for row in rows if not row.flags and row.camera >= 0 and values(row) not in before]
    assert all(math.isfinite(row.cz_kms) for row in new), "no number and no flag"
    if not new:
        same = [values(row) for row in rows] == [values(row) for row in good]
        return "same" if same else "flagged" if any(row.flags for row in rows) else "same rows"
    assert form not in SUMMED, new
    assert not (kind == "cut" and new != rows[-1:]), new
    assert not (kind == "swapped" and form in A_LINE_A_ROW), new
    return "other file"


def of_cells(form, rng, folder, good):
    """What becomes of a cell that is no number; the file is written with it, as text."""
    name = rng.choice(["cz_kms", "cz_error_kms", "distance_mpc"])
    row, cell = rng.randrange(ROWS), rng.choice(NASTY)
    path = write_catalogue(form, COLUMNS, folder)
    encoding = "utf-16" if "16" in form else "utf-8"
    old = str(COLUMNS[name][row])
    text = path.read_bytes().decode(encoding)
    at = -1
    for _ in range(row + 1 if name == "cz_error_kms" else 1):
        at = text.index(old, at + 1)
    written = cell.ljust(len(old)) if form == "ipac" else cell
    path.write_bytes((text[:at] + written + text[at + len(old) :]).encode(encoding))
    rows = read(path)
    if is_sentence(rows, path):
        return "sentence"
    assert [values(r) for r in rows if r.number != row] == [
        values(r) for r in good if r.number != row
    ]
    bad = rows[row]
    if name == "distance_mpc" and not bad.flags:  # a distance may be missing
        assert math.isnan(bad.distance_mpc), (form, cell)
        return "missing"
    assert bad.flags, (form, name, cell)
    return "flagged"


def run(inputs, seed, folder):
    rng, counts = random.Random(seed), Counter()
    good = {form: read(write(form, folder)) for form in [*WRITERS, SUMMED[-1]]}
    assert all(len(rows) == ROWS for rows in good.values())
    in_text = [form for form in TEXT if not form.endswith((".gz", "binary", "binary2"))]
    for number in range(inputs):
        kind = ["flipped", "cut", "swapped", "cells"][number % 4]
        form = rng.choice(in_text if kind == "cells" else list(good))
        try:
            if kind == "cells":
                outcome = of_cells(form, rng, folder, good[form])
            else:
                outcome = of_bytes(form, kind, rng, folder, good[form])
        except Exception as error:
            raise AssertionError(f"seed {seed}, input {number}: {form}, {kind}") from error
        counts[kind, outcome] += 1
    return counts


def report(counts):
    for (kind, outcome), count in sorted(counts.items()):
        print(f"{kind:8} {outcome:12} {count:5}")


def test_mutated_tables_are_refused_flagged_or_the_same(tmp_path):
    counts = run(152, 1, tmp_path)
    assert sum(counts.values()) == 152


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.parametrize("seed", [2, 3])
def test_a_thousand_mutated_tables(tmp_path, seed):
    counts = run(1000, seed, tmp_path)
    report(counts)
    assert sum(counts.values()) == 1000
