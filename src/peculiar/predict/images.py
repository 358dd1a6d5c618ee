"""Where the images of a catalogue's rows are: files, or shards that `fetch` or `observe` wrote."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
from astropy.table import QTable, Table
from numpy.typing import NDArray

from peculiar.core.dataset import OBSERVED_COLUMNS, RAW_COLUMNS, TABLE, Shards, open_set
from peculiar.core.errors import InputError
from peculiar.galaxies.formats import read_galaxy
from peculiar.galaxies.galaxy import Galaxy
from peculiar.galaxies.nsa import read_catalogue
from peculiar.predict.catalogue import Row, has_paths
from peculiar.registry.champion import Champion

FILE_NUMBER = re.compile(r"(\d+)\.fits(\.gz)?$")


def is_set(folder: Path) -> bool:
    """Whether a folder holds images that `fetch` or `observe` wrote."""
    return (folder / TABLE).is_file()


@dataclass(frozen=True)
class Files:
    """FITS files in a folder.

    Attributes
    ----------
    folder : Path
        What the rows' paths are relative to.
    by_id : bool
        Whether the rows are named by the number at the end of a file's name, not by its path.
    atlas : Path or None
        The NASA-Sloan Atlas' catalogue, for its images.
    """

    folder: Path
    by_id: bool = False
    atlas: Path | None = None

    def galaxy(self, row: Row, champion: Champion) -> tuple[Galaxy, int]:
        """The galaxy of a row, and which of its images."""
        if not row.name:
            raise InputError("the row names no image: fill in its path or id")
        path = _by_number(self.folder, row.name) if self.by_id else self.folder / row.name
        return _read(path, champion.bands, self.atlas), row.camera


@dataclass(frozen=True)
class Set:
    """Shards that `fetch` or `observe` wrote; rows are named by the galaxy's number.

    Attributes
    ----------
    folder : Path
        Of the shards.
    """

    folder: Path

    def galaxy(self, row: Row, champion: Champion) -> tuple[Galaxy, int]:
        """The galaxy of a row with only the image of its camera, and 0."""
        images, table, places = _open(self.folder)
        place = places.get((row.name, row.camera))
        if place is None:
            raise InputError(f"{self.folder} has no galaxy {row.name} with camera {row.camera}")
        meta = table.meta
        bands = [_band(self.folder, meta["bands"], band) for band in champion.bands]
        if meta.get("dimming", champion.dimming) != champion.dimming:
            raise InputError(
                f"{self.folder} has {meta['dimming']} dimming, the champion {champion.dimming}"
            )
        seen, raw = np.array([place]), len(images.shape) == 5
        image = images.pick(seen, np.array([row.camera]))[0] if raw else images[seen][0]
        return _galaxy(self.folder, table, place, row, image[bands]), 0


def source_of(given: Path, images: Path | None, atlas: Path | None) -> Files | Set:
    """Where the images of a catalogue's rows are, or of a folder of shards.

    Parameters
    ----------
    given : Path
        Catalogue, or folder of shards.
    images : Path or None
        Folder of files or shards; None for the catalogue's own folder.
    atlas : Path or None
        The NASA-Sloan Atlas' catalogue.

    Raises
    ------
    InputError
        When a folder is not there or has no shards.
    """
    if given.is_dir():
        if not is_set(given):
            raise InputError(f"{given} has no {TABLE}: give a folder that fetch or observe wrote")
        return Set(given.resolve())
    folder = (images or given.parent).resolve()
    if not folder.is_dir():
        raise InputError(f"--images {images}: there is no such folder")
    if is_set(folder):
        return Set(folder)
    by_id = given.is_file() and not has_paths(given)
    return Files(folder, by_id, None if atlas is None else atlas.resolve())


def _galaxy(
    folder: Path, table: QTable, place: int, row: Row, image: NDArray[np.float32]
) -> Galaxy:
    """One image (band, y, x) of a set as a galaxy of one camera."""
    here: dict[str, Any] = {
        "id": int(row.name),
        "images": image[None],
        "kpc_per_pixel": np.array([np.nan]),
        "source": f"galaxy {row.name} of {folder}",
    }
    if "kpc_per_pixel" not in table.colnames:  # seen by observe already
        return Galaxy(**here, pixel_scale_arcsec=float(table.meta["pixel_scale_arcsec"]))
    offset = table["centre_offset"][place].to_value(u.pix)
    here["kpc_per_pixel"] = table["kpc_per_pixel"][place, row.camera : row.camera + 1].value
    return Galaxy(
        **here,
        pixel_scale_arcsec=float(table["pixel_scale_arcsec"][place].to_value(u.arcsec)),
        centre_offset=(float(offset[0]), float(offset[1])),
    )


def rows_of(folder: Path, size: int) -> Iterator[list[Row]]:
    """All images of a set as the rows of a catalogue, `size` at a time.

    Redshifts are those of the set's table: of an observed set D_z times its H0.
    """
    _, table, places = _open(folder)
    if "distance_z_mpc" in table.colnames:
        cz = table["distance_z_mpc"].to_value(u.Mpc) * table.meta["H0_kms_mpc"]
    else:
        cz = table["cz_kms"].to_value(u.km / u.s)

    def row(number: int, name: str, camera: int, cz_kms: float) -> Row:
        if np.isnan(cz_kms):
            return Row(number, name, camera, flags=("no_cz",), reason="it has no cz_kms")
        return Row(number, name, camera, cz_kms)

    rows = (
        row(number, name, camera, float(cz[place]))
        for number, ((name, camera), place) in enumerate(places.items())
    )
    while chunk := list(islice(rows, size)):
        yield chunk


def _band(folder: Path, held: Sequence[str], band: str) -> int:
    if band not in held:
        raise InputError(
            f"{folder} holds the bands {''.join(held)}, but the champion asks for "
            f"{band}: give images that have it"
        )
    return list(held).index(band)


@lru_cache(maxsize=2)
def _open(folder: Path) -> tuple[Shards, QTable, dict[tuple[str, int], int]]:
    """Shards, table, and which place in them each galaxy's camera has."""
    try:
        images, table = open_set(folder, RAW_COLUMNS)
        cameras, ids = range(images.shape[1]), np.asarray(table["id"]).tolist()
        pairs = [(str(id_), c, k) for k, id_ in enumerate(ids) for c in cameras]
    except InputError as error:
        if "lacks the columns" not in str(error):
            raise
        images, table = open_set(folder, OBSERVED_COLUMNS)
        of = zip(table["galaxy"].tolist(), table["camera"].tolist(), strict=True)
        pairs = [(str(id_), c, k) for k, (id_, c) in enumerate(of)]
    return images, table, {(name, camera): place for name, camera, place in pairs}


@lru_cache(maxsize=4)  # catalogues name the same file again for its other cameras
def _read(path: Path, bands: str, atlas: Path | None) -> Galaxy:
    return read_galaxy(path, bands, None if atlas is None else _atlas(atlas))


@lru_cache(maxsize=1)
def _atlas(path: Path) -> Table:
    return read_catalogue(path)


def _by_number(folder: Path, number: str) -> Path:
    paths = _numbered(folder).get(number, [])
    if len(paths) != 1:
        raise InputError(f"{folder} has {len(paths)} files ..._{number}.fits, not one")
    return paths[0]


@lru_cache(maxsize=1)
def _numbered(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if match := FILE_NUMBER.search(path.name):
            found.setdefault(str(int(match[1])), []).append(path)
    return found
