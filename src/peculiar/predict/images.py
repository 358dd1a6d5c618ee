"""Find the images of a catalogue's rows: FITS files, or shards that `fetch` or `observe` wrote."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import astropy.units as u
import numpy as np
from astropy.table import QTable, Table
from numpy.typing import NDArray

from peculiar.core.cosmography import HUBBLE
from peculiar.core.dataset import (
    RAW_COLUMNS,
    TABLE,
    Observed,
    Shards,
    open_set,
    read_table,
    redshifts_of,
)
from peculiar.core.errors import InputError
from peculiar.core.survey import Survey
from peculiar.galaxies.fits import NUMBERED, is_fits_name
from peculiar.galaxies.formats import read_galaxy
from peculiar.galaxies.galaxy import Galaxy
from peculiar.galaxies.nsa import read_catalogue
from peculiar.predict.catalogue import Row, has_paths
from peculiar.predict.states import state_of_files, state_of_set
from peculiar.registry.champion import Champion


def is_dataset(folder: Path) -> bool:
    """Whether a folder holds shards that `fetch` or `observe` wrote."""
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
        path = self._path(row)
        state = state_of_files([path, self.atlas])
        return _read(path, state, champion.bands, self.atlas), row.camera

    def state(self, rows: Sequence[Row]) -> str:
        """What differs when an image of these rows, or the Atlas, has been replaced."""
        return state_of_files([*map(self._path_or_none, rows), self.atlas])

    def _path(self, row: Row) -> Path:
        if not row.name:
            raise InputError("the row names no image: fill in its path or id")
        return _by_number(self.folder, row.name) if self.by_id else self.folder / row.name

    def _path_or_none(self, row: Row) -> Path | None:
        try:
            return self._path(row)
        except InputError:
            return None


@dataclass(frozen=True)
class Dataset:
    """Shards that `fetch` or `observe` wrote; rows name the galaxy by its number.

    Attributes
    ----------
    folder : Path
        Of the shards.
    """

    folder: Path

    @property
    def simulated(self) -> bool:
        """Whether its galaxies are simulated ones, placed by `observe`."""
        _, _, survey, _ = _open(self.folder, state_of_set(self.folder))
        return survey is not None and not survey.measured

    def galaxy(self, row: Row, champion: Champion) -> tuple[Galaxy, int]:
        """A galaxy with the one image that the row names, and 0, that image's number."""
        images, table, survey, positions = _open(self.folder, state_of_set(self.folder))
        position = positions.get((row.name, row.camera))
        if position is None:
            raise InputError(f"{self.folder} has no galaxy {row.name} with camera {row.camera}")
        held, dimming = table.meta["bands"], champion.dimming  # raw images are not dimmed yet
        if survey is not None:
            held, dimming = survey.bands, survey.dimming
        bands = [_band(self.folder, held, band) for band in champion.bands]
        if dimming != champion.dimming:
            raise InputError(
                f"{self.folder} has {dimming} dimming, the champion {champion.dimming}"
            )
        if survey is not None and not survey.measured:
            _check_placed_alike(self.folder, survey, champion.survey)
        rows, cameras = np.array([position]), np.array([row.camera])
        image = images.pick(rows, cameras)[0] if is_raw(table) else images[rows][0]
        return _galaxy(self.folder, table, survey, position, row, image[bands]), 0

    def state(self, _: Sequence[Row]) -> str:
        """What differs when a shard or the table has been replaced."""
        return state_of_set(self.folder)


def _placed(survey: Survey) -> str:
    """PSF of placed images, and their scale and cosmology where these are not the usual ones."""
    fwhm = survey.psf_fwhm_arcsec
    words = ["cubic resampling" if fwhm is None else f"a PSF of {fwhm:g} arcsec"]
    if survey.scale != "header":
        words.append("every frame taken as one size")
    if survey.cosmology != HUBBLE:
        words.append(f"cosmology {survey.cosmology}")
    return ", ".join(words)


def _check_placed_alike(folder: Path, survey: Survey, trained_on: Survey) -> None:
    """Refuse placed images of another PSF, scale or cosmology than the champion's."""
    held, wanted = _placed(survey), _placed(trained_on)
    if held != wanted:
        raise InputError(f"{folder} has {held}, the champion {wanted}: observe it again")


def source_of(
    given: Path,
    images: Path | None,
    atlas: Path | None,
    columns: Mapping[str, str] = MappingProxyType({}),
) -> Files | Dataset:
    """Where the images are of a catalogue's rows, or of a folder of shards.

    Parameters
    ----------
    given : Path
        Catalogue, or folder of shards.
    images : Path or None
        Folder of files or shards; None for the catalogue's own folder.
    atlas : Path or None
        The NASA-Sloan Atlas' catalogue.
    columns : mapping of str to str
        See `peculiar.predict.catalogue.chunks`.

    Raises
    ------
    InputError
        When a folder does not exist or has no shards.
    """
    if given.is_dir():
        if not is_dataset(given):
            raise InputError(f"{given} has no {TABLE}: give a folder that fetch or observe wrote")
        return Dataset(given.resolve())
    folder = (images or given.parent).resolve()
    if not folder.is_dir():
        raise InputError(f"--images {images}: there is no such folder")
    if is_dataset(folder):
        return Dataset(folder)
    by_id = given.is_file() and not has_paths(given, columns)
    return Files(folder, by_id, None if atlas is None else atlas.resolve())


def is_raw(table: QTable) -> bool:
    """Whether a table is one that `fetch` wrote, of galaxies that are not placed yet."""
    return "kpc_per_pixel" in table.colnames


def _galaxy(
    folder: Path,
    table: QTable,
    survey: Survey | None,
    position: int,
    row: Row,
    image: NDArray[np.float32],
) -> Galaxy:
    """A galaxy of one image (band, y, x)."""
    known: dict[str, Any] = {
        "id": int(row.name),
        "images": image[None],
        "source": f"galaxy {row.name} of {folder}",
    }
    if survey is not None:
        scale = survey.pixel_scale_arcsec
        return Galaxy(**known, kpc_per_pixel=np.array([np.nan]), pixel_scale_arcsec=scale)
    offset = table["centre_offset"][position].to_value(u.pix)
    return Galaxy(
        **known,
        kpc_per_pixel=table["kpc_per_pixel"][position, row.camera : row.camera + 1].value,
        pixel_scale_arcsec=float(table["pixel_scale_arcsec"][position].to_value(u.arcsec)),
        centre_offset=(float(offset[0]), float(offset[1])),
    )


def rows_of(folder: Path, size: int) -> Iterator[list[Row]]:
    """All images of a dataset as rows of a catalogue, `size` at a time.

    Redshifts are those of the dataset's table; for an observed one, D_z times its H0. They are in
    the CMB's frame but for raw images of real galaxies.
    """
    _, table, survey, positions = _open(folder, state_of_set(folder))
    if survey is None:
        cz, frames, *at = redshifts_of(table)
    else:
        cz = table["distance_z_mpc"].to_value(u.Mpc) * survey.H0_kms_mpc
        frames, at = np.full(len(cz), survey.cz_frame), [np.full(len(cz), np.nan)] * 2

    def row(number: int, name: str, camera: int, position: int) -> Row:
        cz_kms = float(cz[position])
        if np.isnan(cz_kms):
            return Row(number, name, camera, flags=("no_cz",), reason="it has no cz_kms")
        ra, dec = (float(one[position]) for one in at)
        frame = str(frames[position])
        return Row(number, name, camera, cz_kms, frame=frame, ra_deg=ra, dec_deg=dec)

    rows = (
        row(number, name, camera, position)
        for number, ((name, camera), position) in enumerate(positions.items())
    )
    while chunk := list(islice(rows, size)):
        yield chunk


def _band(folder: Path, held: Sequence[str], band: str) -> int:
    """Which of the dataset's bands a band is."""
    if band not in held:
        raise InputError(
            f"{folder} holds the bands {''.join(held)}, but the champion needs {band}: "
            "give images that have it"
        )
    return list(held).index(band)


@lru_cache(maxsize=2)
def _open(
    folder: Path, _state: str
) -> tuple[Shards, QTable, Survey | None, dict[tuple[str, int], int]]:
    """Shards, table, survey (None for raw images), and the position of each galaxy's camera."""
    if is_raw(read_table(folder, ())):
        images, table = open_set(folder, RAW_COLUMNS)
        cameras, ids = range(images.shape[1]), table["id"].tolist()
        raw = {(str(id_), c): k for k, id_ in enumerate(ids) for c in cameras}
        return images, table, None, raw
    observed = Observed.read(folder)
    images, table = observed.images, observed.table
    pairs = zip(table["galaxy"].tolist(), table["camera"].tolist(), strict=True)
    positions = {(str(id_), c): k for k, (id_, c) in enumerate(pairs)}
    return images, table, observed.survey, positions


@lru_cache(maxsize=4)  # the rows of a file's cameras follow one another
def _read(path: Path, _state: str, bands: str, atlas: Path | None) -> Galaxy:
    table = None if atlas is None else _atlas(atlas, state_of_files([atlas]))
    return read_galaxy(path, bands, table)


@lru_cache(maxsize=1)
def _atlas(path: Path, _state: str) -> Table:
    return read_catalogue(path)


def _by_number(folder: Path, number: str) -> Path:
    paths = _numbered(folder, state_of_files([folder])).get(number, [])
    if len(paths) != 1:
        raise InputError(f"{folder} has {len(paths)} files ..._{number}.fits, not one")
    return paths[0]


@lru_cache(maxsize=1)
def _numbered(folder: Path, _state: str) -> dict[str, list[Path]]:
    """Files by the number at the end of their names."""
    paths: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        match = NUMBERED.search(path.name)
        if match and is_fits_name(path.name):
            paths.setdefault(str(int(match[1])), []).append(path)
    return paths
