"""p(D | image) of each galaxy, as a column of a table of predictions, and back from it.

The column `p_D` has in each row the probability of each cell of one grid of equal cells, with the
prior of the table. The metadata `D_first` (middle of the first cell, Mpc), `D_step` (width of a
cell, Mpc) and `D_cells` (how many) give the grid.
"""

from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import QTable
from numpy.typing import ArrayLike, NDArray

from peculiar.core.errors import InputError
from peculiar.predict.cells import damaged
from peculiar.predict.columns import DENSITY
from peculiar.predict.priors import distance_grid
from peculiar.registry.champion import Champion

Array = NDArray[np.float64]
NAME = "p_D"
FIRST, STEP, CELLS = "D_first", "D_step", "D_cells"
ROUNDING = 1e-4  # of the sum of a row: 400 cells are rounded to float32
FORMATS = {".ecsv": "ascii.ecsv", ".csv": "ascii.ecsv", ".fits": "fits", ".parquet": "parquet"}


def check_density(champion: Champion) -> None:
    """Refuse a champion without a grid of distances."""
    if champion.grid_mpc is None and champion.range_mpc is None:
        raise InputError(
            f"version {champion.version} gives one distance and does not record its training "
            "distances, so there is no grid for --density: leave it out"
        )


def describe_grid(grid_mpc: Array) -> dict[str, float]:
    """Metadata of a grid of equal cells (G,), Mpc."""
    step = (grid_mpc[-1] - grid_mpc[0]) / (len(grid_mpc) - 1)
    return {FIRST: float(grid_mpc[0]), STEP: float(step), CELLS: len(grid_mpc)}


def add_densities(table: QTable, champion: Champion, p: NDArray[np.float32]) -> None:
    """Put p(D | image), (n, G) on the champion's `distance_grid`, into a table of n rows."""
    table[NAME] = p
    table[NAME].info.description = DENSITY[NAME].description
    table.meta |= describe_grid(distance_grid(champion))


def read_densities(path: str | Path) -> tuple[QTable, Array, Array]:
    """Read a table of predictions with p(D | image).

    Parameters
    ----------
    path : str or Path
        Table that `peculiar predict --density` wrote.

    Returns
    -------
    table : QTable, n rows
        All of its columns, as they are.
    grid_mpc : ndarray, (G,)
        Middles of equal cells of distance, Mpc.
    p : ndarray, (n, G)
        Probability of each cell; rows sum to one, or are NaN where there is no distance.

    Raises
    ------
    InputError
        When the file cannot be read, has no such column, or one that does not fit its metadata.
    """
    path = Path(path)
    table = _read(path)
    if NAME not in table.colnames:
        raise InputError(f"{path} has no column {NAME}: predict it again with --density")
    p = plain_numbers(table[NAME])
    if p.ndim != 2:
        raise InputError(f"{path} has {NAME} of one number a row: predict it again with --density")
    meta = {str(key).lower(): value for key, value in table.meta.items()}
    first, step, cells = (_number(path, meta, key) for key in (FIRST, STEP, CELLS))
    if cells != p.shape[1] or not (step > 0 and first >= 0.499 * step):
        raise InputError(
            f"{path} has {p.shape[1]} cells in {NAME}, which {FIRST} = {first:g}, {STEP} = "
            f"{step:g} and {CELLS} = {cells:g} do not describe: predict it again with --density"
        )
    total = p.sum(axis=1)
    bad = ~np.isnan(p).all(axis=1) & ~((p >= 0).all(axis=1) & (np.abs(total - 1) < ROUNDING))
    if bad.any():
        raise InputError(
            f"{path} has {NAME} in row {np.flatnonzero(bad)[0]} that is no distribution (sum "
            f"{total[bad][0]:g}): predict it again with --density"
        )
    grid = first + step * np.arange(p.shape[1], dtype=np.float64)
    return table, grid, np.asarray(p / total[:, None])


def as_qp(p: ArrayLike, grid_mpc: ArrayLike) -> Any:
    """Give distributions as an ensemble of the package `qp`, histograms of distance in Mpc.

    Parameters
    ----------
    p : array_like, (n, G)
        From `read_densities`, without its rows of NaN.
    grid_mpc : array_like, (G,)
        From `read_densities`.

    Returns
    -------
    qp.Ensemble
        n distributions.

    Raises
    ------
    InputError
        When qp is not installed, or a row has no distribution.
    """
    try:
        import qp  # type: ignore[import-not-found]  # an optional extra
    except ImportError:
        raise InputError(
            "as_qp needs qp, an optional extra: install qp-prob, or peculiar[qp]"
        ) from None
    values, grid = np.asarray(p, dtype=float), np.asarray(grid_mpc, dtype=float)
    unknown = ~np.isfinite(values).all(axis=1)
    if unknown.any():
        raise InputError(
            f"row {np.flatnonzero(unknown)[0]} has no p(D | image): leave out such rows"
        )
    step = (grid[-1] - grid[0]) / (len(grid) - 1)
    edges = np.append(grid - step / 2, grid[-1] + step / 2)
    return qp.Ensemble(qp.hist, data={"bins": edges, "pdfs": values / step})


def _read(path: Path) -> QTable:
    if path.suffix not in FORMATS:
        raise InputError(f"{path}: unsupported extension: give {', '.join(FORMATS)}")
    if not path.is_file():
        raise InputError(f"{path} is missing: fix the path")
    try:
        return QTable.read(path, format=FORMATS[path.suffix])
    except Exception as error:  # astropy and PyArrow raise errors of many kinds on damaged files
        raise damaged(path, error) from None


def plain_numbers(column: Any) -> Array:
    """Numbers of a column, NaN where they are masked."""
    values = getattr(column, "value", column)
    return np.asarray(np.ma.filled(np.ma.asarray(values, dtype=float), np.nan))


def _number(path: Path, meta: dict[str, Any], key: str) -> float:
    """A finite number of the metadata."""
    try:
        value = float(meta[key.lower()])
    except (KeyError, TypeError, ValueError):
        value = np.nan
    if not np.isfinite(value):
        raise InputError(f"{path} has no number {key} in its metadata: predict it again")
    return value
