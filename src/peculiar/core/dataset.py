"""Read and write sets of images: shards of arrays, and a table of galaxies or images.

A set of images is a folder. The shards `images-000.npy`, `images-001.npy`, ... hold float32 arrays
in W/m/m^2/sr. Their first axis is galaxies or images, in the order of the table. `table.ecsv` is an
astropy table with units; its `meta` describes the set.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, Self

import astropy.units as u
import numpy as np
from astropy.table import QTable
from numpy.typing import NDArray

from peculiar.core.errors import InputError
from peculiar.core.params import validate
from peculiar.core.shard import Part, Shard
from peculiar.core.survey import Survey

TABLE = "table.ecsv"
RAW_COLUMNS = (
    "id",
    "source",
    "log10_stellar_mass",
    "half_mass_radius_kpc",
    "absolute_mag",
    "kpc_per_pixel",
    "mag_ab",
    "pixel_scale_arcsec",
    "cz_kms",
    "cz_flow_kms",
    "centre_offset",
    "sha256",
)
OBSERVED_COLUMNS = ("galaxy", "camera", "distance_mpc", "velocity_kms", "distance_z_mpc", "split")
SPLITS = ("train", "validation", "test")


def redshifts_of(
    table: QTable,
) -> tuple[NDArray[np.float64], NDArray[np.str_], NDArray[np.float64], NDArray[np.float64]]:
    """Redshifts of raw galaxies, and what is known of their frames.

    Parameters
    ----------
    table : QTable
        That `fetch` wrote; before 2026-11-29 without frames and positions.

    Returns
    -------
    cz_kms, frames, ra_deg, dec_deg : ndarray, (galaxy,)
        Speed of light times the redshift, km/s; its frame, "unknown" where none is named; position,
        deg, NaN where there is none.
    """
    none = np.full(len(table), np.nan)
    known = "cz_frame" in table.colnames
    ra, dec = (table[name].to_value(u.deg) if known else none for name in ("ra_deg", "dec_deg"))
    frames = np.asarray(table["cz_frame"]) if known else np.full(len(table), "unknown")
    return table["cz_kms"].to_value(u.km / u.s), frames, ra, dec


class Shards:
    """Images in shards; indexing reads only the images asked for.

    Parameters
    ----------
    folder : Path
        Folder written with `ShardWriter`.

    Attributes
    ----------
    shape : tuple of int
        Shape of all shards together, joined along the first axis.

    Raises
    ------
    InputError
        When the folder has no shards, shards of different shapes, or a damaged shard; and when
        reading, if a shard was replaced since.
    """

    def __init__(self, folder: Path) -> None:
        paths = sorted(folder.glob("images-*.npy"), key=lambda path: (len(path.name), path.name))
        if not paths:
            raise InputError(f"{folder} has no images: run `dvc repro` to make them")
        try:
            self._shards = [Shard.of(path) for path in paths]
        except (ValueError, EOFError) as error:
            raise InputError(
                f"{folder} has a damaged shard ({error}): run `dvc checkout`"
            ) from None
        shapes = {shard.shape[1:] for shard in self._shards}
        if len(shapes) > 1:
            raise InputError(
                f"{folder} has shards of different shapes {shapes}: run the stage again"
            )
        self._starts = np.cumsum([0, *(shard.shape[0] for shard in self._shards)])
        self.shape: tuple[int, ...] = (int(self._starts[-1]), *shapes.pop())

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """Items (len(rows), ...) in the order of `rows`."""
        out = np.empty((len(rows), *self.shape[1:]), dtype=np.float32)
        size = prod(self.shape[1:])
        for shard, places, inside in self._where(rows):
            shard.read((out[k], row * size) for k, row in zip(places, inside, strict=True))
        return out

    def _where(self, rows: NDArray[np.integer]) -> Iterator[tuple[Shard, list[int], list[int]]]:
        """Each shard that holds some of `rows`, their places among `rows`, and rows in the shard.

        Raises
        ------
        IndexError
            When a row is negative, or beyond the last.
        """
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(self)} images")
        shard_of = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(shard_of):
            places = np.flatnonzero(shard_of == number)
            yield (
                self._shards[number],
                places.tolist(),
                (rows[places] - self._starts[number]).tolist(),
            )

    def pick(
        self,
        rows: NDArray[np.integer],
        cameras: NDArray[np.integer],
        middle: int | None = None,
    ) -> NDArray[np.float32]:
        """Read one camera's image of each row.

        Parameters
        ----------
        rows, cameras : ndarray of int, (n,)
            Row, and camera in that row; items must be (camera, band, y, x).
        middle : int, optional
            Side of the central square that is needed, pixels. The result may be larger.

        Returns
        -------
        ndarray, (n, band, y, x), float32
            Images in the unit of the shards, centred on the middle of the frame.
        """
        per_row, bands, height, width = self.shape[1:]
        if len(rows) != len(cameras):
            raise ValueError(f"{len(rows)} rows, but {len(cameras)} cameras")
        if len(cameras) and not 0 <= cameras.min() <= cameras.max() < per_row:
            raise IndexError(f"cameras {cameras.min()} to {cameras.max()} of {per_row}")
        rim = 0 if middle is None else max(0, (min(height, width) - middle) // 2)
        out = np.empty((len(rows), bands, height - 2 * rim, width - 2 * rim), dtype=np.float32)
        # of one image, complete lines; new memory for all would cost more than to copy these
        lines = np.empty((bands, height - 2 * rim, width), dtype=np.float32)

        def parts(places: list[int], inside: list[int]) -> Iterator[Part]:
            for k, row in zip(places, inside, strict=True):
                image = (row * per_row + int(cameras[k])) * bands
                if not rim:
                    yield out[k], image * height * width
                    continue
                for band in range(bands):
                    yield lines[band], ((image + band) * height + rim) * width
                out[k] = lines[..., rim : width - rim]  # which are read by now

        for shard, places, inside in self._where(rows):
            shard.read(parts(places, inside))
        return out


def write_table(table: QTable, folder: Path, columns: tuple[str, ...]) -> None:
    """Write `table.ecsv` of a set of images, after checking its columns."""
    _check_columns(table, folder, columns)
    table.write(folder / TABLE, format="ascii.ecsv")


def read_table(folder: Path, columns: tuple[str, ...]) -> QTable:
    """Read `table.ecsv` of a set of images.

    Parameters
    ----------
    folder : Path
        Folder of the set.
    columns : tuple of str
        `RAW_COLUMNS` or `OBSERVED_COLUMNS`.

    Returns
    -------
    QTable
        With units; `meta` describes the set.

    Raises
    ------
    InputError
        When the table is missing, cannot be read, or lacks a column.
    """
    path = folder / TABLE
    try:
        table = QTable.read(path, format="ascii.ecsv")
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run `dvc repro` to make it") from None
    except Exception as error:  # astropy and PyYAML raise many kinds on a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} cannot be read ({reason}): run `dvc checkout`") from None
    _check_columns(table, folder, columns)
    return table


def _check_columns(table: QTable, folder: Path, columns: tuple[str, ...]) -> None:
    missing = [name for name in columns if name not in table.colnames]
    if missing:
        raise InputError(f"{folder / TABLE} lacks the columns {missing}: run the stage again")


def _check_once(table: QTable, folder: Path, names: tuple[str, ...]) -> None:
    """Refuse a table in which two rows have one name; a split would take them for one galaxy."""
    keys = np.stack([np.asarray(table[name]) for name in names], axis=1)
    distinct, first = np.unique(keys, axis=0, return_index=True)
    if len(distinct) < len(keys):
        again = keys[np.setdiff1d(np.arange(len(keys)), first)[0]]
        named = ", ".join(f"{name} {value}" for name, value in zip(names, again, strict=True))
        raise InputError(
            f"{folder / TABLE} has {named} twice: remove one of the two files that were fetched, "
            "and run the stage again"
        )


def open_set(folder: Path, columns: tuple[str, ...]) -> tuple[Shards, QTable]:
    """Open the images and the table of a set.

    Parameters
    ----------
    folder : Path
        Folder of the set.
    columns : tuple of str
        `RAW_COLUMNS` or `OBSERVED_COLUMNS`.

    Returns
    -------
    Shards, QTable
        Of the same length.

    Raises
    ------
    InputError
        When either is missing or damaged, their lengths differ, or a galaxy is there twice.
    """
    images, table = Shards(folder), read_table(folder, columns)
    _check_once(table, folder, ("id",) if columns == RAW_COLUMNS else ("galaxy", "camera"))
    if len(images) != len(table):
        raise InputError(
            f"{folder} has {len(images)} images but {len(table)} table rows: run `dvc checkout`"
        )
    return images, table


@dataclass(frozen=True)
class Observed:
    """An observed dataset: images with distances, velocities and splits.

    Attributes
    ----------
    images : Shards
        (image, band, y, x), W/m/m^2/sr.
    table : QTable
        `OBSERVED_COLUMNS`, one row per image; its `meta` holds the `Survey`.
    """

    images: Shards
    table: QTable

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Open an observed dataset and check its survey.

        Raises
        ------
        InputError
            As in `open_set`, and when `meta` of the table is no valid `Survey`, or not that of
            the images.
        """
        observed = cls(*open_set(folder, OBSERVED_COLUMNS))
        survey = validate(Survey, observed._described(), str(folder / TABLE))
        stated = (len(survey.bands), survey.pixels, survey.pixels)
        if observed.images.shape[1:] != stated:
            raise InputError(
                f"{folder / TABLE} states images (band, y, x) of {stated}, but the shards hold "
                f"{observed.images.shape[1:]}: run `dvc checkout`"
            )
        return observed

    @cached_property
    def survey(self) -> Survey:
        """Properties that all images share."""
        return validate(Survey, self._described(), TABLE)

    def _described(self) -> dict[str, Any]:
        """`meta` of the table, with `pixels`, which datasets before 2026-11-26 lack."""
        return {"pixels": self.images.shape[-1], **self.table.meta}

    def rows(self, split: str) -> NDArray[np.int64]:
        """Row numbers of one split, one of `SPLITS`."""
        return np.flatnonzero(np.asarray(self.table["split"]) == split)
