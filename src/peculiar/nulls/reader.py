"""A reader of rulers that needs no training in epochs: sharpness, and a linear regression.

It says whether scenes can be read at all. Where it finds nothing, a network that finds nothing
has been asked a fair question; where it finds a ruler that a network does not, the network cannot
read it, or was trained too briefly.
"""

import numpy as np
from numpy.typing import NDArray

from peculiar.core.dataset import Observed
from peculiar.networks.inference import pieces_of
from peculiar.nulls.scenes import KINDS
from peculiar.training.predictions import column_mpc

Array = NDArray[np.float64]
AT_ONCE = 64
RIDGE = 1e-3  # of the variance of each number
TINY = 1e-10  # of a mean square, relative to that of the image: above the rounding of float32


def sharpness(images: NDArray[np.float32]) -> Array:
    """Mean squares of differences, of the rim and of the undershoot, of every second band.

    Differences are those of the image and of its cube root, in which no blob outshines the others.

    Parameters
    ----------
    images : ndarray, (n, band, y, x)
        Any unit.

    Returns
    -------
    ndarray, (n, k)
        Logarithms of mean squares relative to that of the whole image.
    """
    images = images[:, ::2]
    numbers = []
    for shown in (images, np.cbrt(images)):
        rim = np.concatenate([shown[..., :2, :], shown[..., -2:, :]], axis=-2)
        along, down = np.diff(shown, axis=-1), np.diff(shown, axis=-2)
        parts = along, down, np.diff(along, axis=-1), rim, shown.clip(max=0)
        whole = np.square(shown, dtype=np.float64).mean(axis=(-2, -1)).clip(1e-60)
        numbers += [
            np.log(np.square(part, dtype=np.float64).mean(axis=(-2, -1)) / whole + TINY)
            for part in parts
        ]
    return np.concatenate(numbers, axis=1)


def linear_reader(known: Array, labels_mpc: Array, asked: Array) -> Array:
    """Distances (m,), Mpc, of numbers (m, k), by ridge regression on known ones (n, k)."""
    mean, deviation = known.mean(axis=0), known.std(axis=0) + 1e-9
    x, new = (known - mean) / deviation, (asked - mean) / deviation
    gram = x.T @ x + RIDGE * len(x) * np.eye(x.shape[1])
    middle = labels_mpc.mean()
    return np.asarray(middle + new @ np.linalg.solve(gram, x.T @ (labels_mpc - middle)))


def read_scenes(scenes: Observed) -> Array:
    """Distances (n,), Mpc, of unseen scenes by a linear reader of each kind.

    Parameters
    ----------
    scenes : Observed
        From `peculiar.nulls.scenes.scene_table`.

    Returns
    -------
    ndarray, (n,)
        In the order of the split `test`.
    """
    kind, D_mpc = np.asarray(scenes.table["kind"]), column_mpc(scenes, "distance_mpc")
    known, unseen = scenes.rows("train"), scenes.rows("test")
    numbers = {
        name: np.concatenate([sharpness(scenes.images[p]) for p in pieces_of(rows, AT_ONCE)])
        for name, rows in (("known", known), ("unseen", unseen))
    }
    D_p = np.full(len(unseen), np.nan)
    for name in KINDS:
        learn, asked = kind[known] == name, kind[unseen] == name
        D_p[asked] = linear_reader(
            numbers["known"][learn], D_mpc[known][learn], numbers["unseen"][asked]
        )
    return D_p
