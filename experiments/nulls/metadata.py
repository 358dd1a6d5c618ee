"""What order, numbers, zeros, bits and compression tell of the distance."""

import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import KFold, cross_val_predict

from peculiar.core.dataset import Observed
from peculiar.networks.inference import pieces_of
from peculiar.nulls.measure import pearson
from peculiar.training.predictions import column_mpc

Array = NDArray[np.float64]
CORNER = 8  # pixels: side of the corner whose bits are read
AT_ONCE = 64
FOLDS = 5


def places(observed: Observed, per_shard: int) -> dict[str, Array]:
    """What an image's place says: row, row in its shard, galaxy, camera, split; each (image, k)."""
    row = np.arange(len(observed.table))
    columns = {
        "row": row,
        "row in its shard": row % per_shard,
        "number of the galaxy": np.asarray(observed.table["galaxy"]),
        "camera": np.asarray(observed.table["camera"]),
        "split": np.unique(np.asarray(observed.table["split"]), return_inverse=True)[1],
    }
    return {name: np.asarray(column, dtype=float)[:, None] for name, column in columns.items()}


def traces(observed: Observed) -> dict[str, Array]:
    """What a file keeps of an image beside its light, each (image, k).

    Numbers of exact zeros and of values below zero; how often each bit is set among the values of a
    corner; the compressed size.
    """
    found: dict[str, list[Array]] = {"zeros": [], "bits of the corner": [], "compressed size": []}
    for piece in pieces_of(np.arange(len(observed.table)), AT_ONCE):
        images = observed.images[piece]
        axes = (1, 2, 3)
        counts = [(images == 0).sum(axis=axes), (images < 0).sum(axis=axes)]
        found["zeros"].append(np.stack(counts, axis=1).astype(float))
        corner = np.ascontiguousarray(images[..., :CORNER, :CORNER]).reshape(len(images), -1)
        bits = np.unpackbits(corner.view(np.uint8).reshape(*corner.shape, 4), axis=-1)
        found["bits of the corner"].append(bits.mean(axis=1))
        sizes = [len(zlib.compress(image.tobytes(), 1)) for image in images]
        found["compressed size"].append(np.array(sizes, dtype=float)[:, None])
    return {name: np.concatenate(parts) for name, parts in found.items()}


def readable(observed: Observed, columns: Mapping[str, Array]) -> dict[str, tuple[float, float]]:
    """Correlation with D, and its error, of what trees make of each of several columns.

    Parameters
    ----------
    observed : Observed
        Dataset.
    columns : mapping of str to ndarray, (image, k)
        Numbers to learn from.

    Returns
    -------
    dict of str to tuple
        r of cross-validated predictions, and its standard error.
    """
    D_mpc = column_mpc(observed, "distance_mpc")
    folds = KFold(FOLDS, shuffle=True, random_state=0)
    found = {}
    for name, numbers in columns.items():
        trees = HistGradientBoostingRegressor(max_iter=50, random_state=0)
        found[name] = pearson(D_mpc, cross_val_predict(trees, numbers, D_mpc, cv=folds))
    return found
