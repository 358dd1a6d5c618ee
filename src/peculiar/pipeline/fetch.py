"""Stage `fetch`: convert FITS files, stand-in or downloaded, to shards and a galaxy table."""

import argparse
import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
from astropy.table import QTable
from tqdm import tqdm

from peculiar.core.dataset import RAW_COLUMNS, write_table
from peculiar.core.errors import InputError, one_sentence
from peculiar.core.params import load
from peculiar.core.provenance import imported_code_digest
from peculiar.core.shard import ShardWriter
from peculiar.core.survey import PAPER_FIELD_KPC
from peculiar.galaxies.galaxy import Galaxy
from peculiar.galaxies.params import Fetch
from peculiar.galaxies.sources import SOURCE_LABELS, SOURCES, Source
from peculiar.galaxies.unfinished import Begun, Row, begun, plain
from peculiar.pipeline.paths import Paths

ROUNDING_KPC = 0.05  # of 84.4 as the paper writes it
UNITS = {
    "kpc_per_pixel": u.kpc,
    "half_mass_radius_kpc": u.kpc,
    "absolute_mag": u.mag,
    "mag_ab": u.mag,
    "pixel_scale_arcsec": u.arcsec,
    "cz_kms": u.km / u.s,
    "cz_flow_kms": u.km / u.s,
    "ra_deg": u.deg,
    "dec_deg": u.deg,
    "centre_offset": u.pix,
}


def main(arguments: Sequence[str] | None = None, root: Path = Path()) -> None:
    """Run the stage from `params.yaml`."""
    argparse.ArgumentParser(prog="peculiar fetch", description=__doc__).parse_args(arguments)
    paths = Paths(root)
    with one_sentence():
        fetch_galaxies(load(Fetch, paths.params), paths.fetched)


def fetch_galaxies(params: Fetch, folder: Path) -> None:
    """Write the raw images of all galaxies into `folder`, completely or not at all.

    What an interrupted run has begun is used, if it would write the same (`galaxies.unfinished`).
    Memory holds one galaxy at a time; for stand-ins, up to two more per core.

    Parameters
    ----------
    params : Fetch
        Section `fetch` of `params.yaml`.
    folder : Path
        Folder to replace. It receives shards (galaxy, camera, band, y, x), W/m/m^2/sr, and the
        galaxy table.

    Raises
    ------
    InputError
        When a file cannot be used, its images have another shape than those before or no dust
        left, or another file has its number or its images; the message names it. When another
        process fetches.
    """
    source = SOURCES[params.source](params)
    everything = decided_by(params, source)
    with begun(folder, everything, source.files, source.total, params.shard_galaxies) as work:
        rows = write_galaxies(params, source, work)
        table = galaxy_table(rows)
        table.meta["bands"] = list(params.bands)
        made_here = any(row["source"].startswith("stand-in:") for row in rows)
        table.meta["source"] = "stand-in" if made_here else SOURCE_LABELS[params.source]
        table.meta["skipped"] = source.skipped
        write_table(table, work.images, RAW_COLUMNS)
        side = work.shape[-1]
    if doubt := doubt_of_frames(table, side):
        tqdm.write(doubt, file=sys.stderr)


def decided_by(params: Fetch, source: Source) -> list[Any]:
    """All but the galaxies' files that decides the output: parameters, code and a catalogue."""
    read = {"source", "bands", "shard_galaxies", params.source}
    return [
        params.model_dump(mode="json", include=read),
        imported_code_digest("peculiar.pipeline.fetch"),
        [version(library) for library in ("numpy", "scipy", "astropy")],
        source.decided_by,
    ]


def write_galaxies(params: Fetch, source: Source, work: Begun) -> list[Row]:
    """Write the galaxies that are not there yet; return the rows of all, in plain values."""
    rows = work.rows()
    work.leave_only(rows)
    if rows:
        print(f"fetch: {len(rows)} of {source.total} galaxies are there from an interrupted run")
    shape = work.shape if rows else ()
    seen: dict[Any, str] = {}
    for row in rows:
        check_new(row, seen)
    bar = tqdm(
        source.galaxies(len(rows)),
        f"fetch ({params.source})",
        source.total,
        initial=len(rows),
        unit="galaxy",
    )
    with ShardWriter(work.images, source.total, params.shard_galaxies, len(rows)) as shards:
        for galaxy in bar:
            check_as_measured(galaxy)
            shape = shape or galaxy.images.shape
            if galaxy.images.shape != shape:
                raise InputError(
                    f"{galaxy.source} has images of shape {galaxy.images.shape}, but the files "
                    f"before it {shape}: keep files of one size in a folder"
                )
            shards.append(galaxy.images)
            rows.append(plain(table_row(galaxy)))
            check_new(rows[-1], seen)
            if shards.shard_complete:
                work.note(rows)
    return rows


def check_as_measured(galaxy: Galaxy) -> None:
    """Refuse a galaxy whose dust is removed: shards do not say so, and it would be removed again.

    A network must also not be trained on images with and without dust.
    """
    if galaxy.dust_removed:
        raise InputError(
            f"{galaxy.source} has DUSTCORR = T, its dust is removed already, but fetch needs "
            "images as measured: remove it from fetch.nsa.folder, and predict the file itself"
        )


def check_new(row: Mapping[str, Any], seen: dict[Any, str]) -> None:
    """Refuse a galaxy whose number, or whose images, another file has; remember it otherwise.

    A galaxy is named by its number: two of one number would be taken for one. One galaxy under two
    numbers would be both in the training and in the test split.
    """
    for key, what in ((row["id"], f"number {row['id']}"), (row["sha256"], "images")):
        if key in seen:
            raise InputError(
                f"{row['source']} has the same {what} as {seen[key]}: keep one of the two in the "
                "folder"
            )
        seen[key] = row["source"]


def doubt_of_frames(table: QTable, pixels: int) -> str:
    """State why the scale of Illustris' images is in doubt; empty if it is not.

    Parameters
    ----------
    table : QTable
        From `galaxy_table`.
    pixels : int
        Side of the images, pixels.

    Returns
    -------
    str
        One sentence where the files say that all frames are as wide as in the paper.
    """
    genuine = [source.startswith("illustris:") for source in table["source"]]
    sides_kpc = table["kpc_per_pixel"].to_value(u.kpc)[genuine] * pixels
    if not sides_kpc.size or not np.allclose(sides_kpc, PAPER_FIELD_KPC, rtol=0, atol=ROUNDING_KPC):
        return ""
    return (
        f"warning: the files say that all frames of {len(sides_kpc)} galaxies are "
        f"{PAPER_FIELD_KPC:g} kpc wide, but the public Illustris images are said to span ten "
        "stellar half-mass radii: compare them with `peculiar inspect` before you trust a distance"
    )


def table_row(galaxy: Galaxy) -> dict[str, Any]:
    """One row of the galaxy table: all fields of a galaxy except its images, and their sha256."""
    row = {field.name: getattr(galaxy, field.name) for field in fields(galaxy)}
    images = row.pop("images")
    row["absolute_mag"] = np.broadcast_to(galaxy.absolute_mag, images.shape[1])
    row["mag_ab"] = np.broadcast_to(galaxy.mag_ab, images.shape[:2])
    return row | {"sha256": hashlib.sha256(images.data).hexdigest()}


def galaxy_table(rows: list[dict[str, Any]]) -> QTable:
    """Make the galaxy table, with units and descriptions."""
    table = QTable(rows=rows)
    for name, unit in UNITS.items():
        table[name].unit = unit
    table["log10_stellar_mass"].info.description = "log10(M*/Msun)"
    table["mag_ab"].info.description = "from the file, for each camera and band"
    table["cz_frame"].info.description = "frame of cz_kms"
    table["cz_flow_kms"].info.description = "corrected for peculiar velocities by a flow model"
    table["sha256"].info.description = "of the galaxy's images as float32, C order"
    return table


if __name__ == "__main__":
    main()
