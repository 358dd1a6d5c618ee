"""Measure what a network makes of scenes without distance, and of the same stars seen otherwise."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from peculiar.core.dataset import Observed
from peculiar.core.device import best_device
from peculiar.networks.heads import Network
from peculiar.networks.inference import run_network
from peculiar.networks.params import NetworkSection
from peculiar.nulls.renderings import REFERENCE
from peculiar.nulls.scenes import KINDS, of_kind
from peculiar.runs.nulls import Rendering, Scenes
from peculiar.training.predictions import column_mpc, expected_mpc, grid_of, predict_split
from peculiar.training.train import train_network
from peculiar.velocity.metrics import l2

Array = NDArray[np.float64]
CONSTANT_MPC = 1e-3  # predictions that scatter less are one number, but for rounding


def pearson(D_mpc: Array, D_p_mpc: Array) -> tuple[float, float]:
    """Correlation of predicted and true distances (n,), Mpc, and its standard error.

    The error is (1 - r^2) / sqrt(n - 1). A network that gives one number has r = 0; one that gives
    NaN has NaN.
    """
    constant = np.std(D_p_mpc) < CONSTANT_MPC
    r = 0.0 if constant else float(np.corrcoef(D_mpc, D_p_mpc)[0, 1])
    return r, (1 - r**2) / float(np.sqrt(len(D_mpc) - 1))


def spec_for_scenes(spec: NetworkSection, epochs: int) -> NetworkSection:
    """A network's own parameters, for a training on scenes.

    Scenes have no raw images in `data/fetch`, so there are no fresh distances and no random kernels
    (`fresh`, `fresh_mpc`, `views`, `kernels`). They belong to no galaxies, so none of their images
    is left out and there are no folds; a sharpness changes no correlation. Labels are not
    corrected in rounds. At most `epochs` epochs.
    """
    changes = {"fresh": False, "fresh_mpc": None, "views": None, "kernels": False, "rounds": 1}
    changes |= {"images_per_galaxy": None, "calibration_folds": None}
    return spec.model_copy(update={**changes, "epochs": min(spec.epochs, epochs)})


def learnt_from_scenes(
    scenes: Observed, spec: NetworkSection, epochs: int, seed: int
) -> tuple[Scenes, ...]:
    """Train a network on scenes of each kind, and correlate its distances of unseen ones with D.

    Each kind has a training of its own: in a mixture, the kinds differ more in sharpness than a
    resampler makes any of them differ with distance, and hide it (docs/results/nulls.md).

    Parameters
    ----------
    scenes : Observed
        Scenes, with the column `kind` of `peculiar.nulls.scenes.scene_table`; those of the split
        `test` are unseen.
    spec : NetworkSection
        The network.
    epochs : int
        Largest number of epochs.
    seed : int
        Seed of the training.

    Returns
    -------
    tuple of Scenes
        One per kind, and one for all.
    """
    own = spec_for_scenes(spec, epochs)
    unseen = scenes.rows("test")
    D_p = np.full(len(unseen), np.nan)
    for kind in KINDS:
        some = of_kind(scenes, kind)
        network = train_network(some, own, seed, lambda *_: None)
        output = predict_split(network, some, "test")
        D_p[np.isin(unseen, some.rows("test"))] = expected_mpc(output, grid_of(network))
    return correlations(scenes, D_p)


def correlations(scenes: Observed, D_p_mpc: Array) -> tuple[Scenes, ...]:
    """Correlate predictions (n,), Mpc, of unseen scenes with D, for each kind and for all."""
    rows = scenes.rows("test")
    D_mpc = column_mpc(scenes, "distance_mpc")[rows]
    kind = np.asarray(scenes.table["kind"])[rows]
    chosen = {name: kind == name for name in KINDS} | {"all scenes": np.full(len(rows), True)}
    found = []
    for name, some in chosen.items():
        r, error = pearson(D_mpc[some], D_p_mpc[some])
        found.append(Scenes(name=name, r=r, error=error))
    return tuple(found)


def predicted_mpc(network: Network, images: NDArray[np.float32]) -> Array:
    """Predicted distances (n,), Mpc, of images (n, band, y, x), W/m/m^2/sr."""
    device = best_device()
    output = run_network(network.to(device), images, np.arange(len(images)), device)
    return expected_mpc(output, grid_of(network))


def changes(
    D_mpc: Array, galaxy: NDArray[np.int64], D_p_mpc: Mapping[str, Array]
) -> tuple[Rendering, ...]:
    """Compare the predictions of each rendering with those of `REFERENCE`.

    Parameters
    ----------
    D_mpc : ndarray, (n,)
        True distances, Mpc.
    galaxy : ndarray of int, (n,)
        Galaxy of each image. Images of one galaxy are not independent, so errors are those of the
        means of galaxies.
    D_p_mpc : mapping of str to ndarray, (n,)
        Predicted distances, Mpc, by the name of the rendering.

    Returns
    -------
    tuple of Rendering
        One for each rendering but the reference.
    """
    reference = D_p_mpc[REFERENCE]
    _, which, images = np.unique(galaxy, return_inverse=True, return_counts=True)
    found = []
    for name, D_p in D_p_mpc.items():
        if name == REFERENCE:
            continue
        of_galaxy = np.bincount(which, D_p - reference) / images
        found.append(
            Rendering(
                name=name,
                change_mpc=float(of_galaxy.mean()),
                error_mpc=float(of_galaxy.std(ddof=1) / np.sqrt(len(of_galaxy))),
                l2_mpc=l2(D_mpc, D_p),
                reference_l2_mpc=l2(D_mpc, reference),
            )
        )
    return tuple(found)
