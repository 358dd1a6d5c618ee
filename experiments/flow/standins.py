"""The bulk flow of stand-in galaxies, from the champion's own p(D | image).

    python -m experiments.flow.standins OUT --galaxies 250 --skies 100

Simulate galaxies that no training has seen, each seen once, from 50 to 100 Mpc. Give them positions
on the sky, a flow of 300 km/s and random velocities, and find the flow from the champion's p(D |
image) under the prior of its training distances, which is the law of these. Positions and
velocities are drawn again for each sky; the images are the same. Run after `make repro`.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.flow.estimators import judged, mean_said
from experiments.flow.mocks import Mock, on_the_sky
from experiments.standin.limits import SEED, seen
from peculiar.core.errors import InputError, one_sentence
from peculiar.core.params import load
from peculiar.flow.fit import fit_flow
from peculiar.flow.likelihood import Galaxies
from peculiar.galaxies.params import Fetch
from peculiar.predict.estimate import outputs
from peculiar.predict.priors import distance_grid, distances_given_image, prior_named
from peculiar.registry.champion import Champion, load_champion
from peculiar.registry.params import Promote

Array = NDArray[np.float64]


def densities(champion: Champion, galaxies: int) -> tuple[Array, Array]:
    """p(D | image) (n, G) of the first camera of new galaxies, and their distances (n,), Mpc."""
    limits = champion.survey.range_mpc
    if limits is None:
        raise InputError("the champion has no range of distances: promote one with limits")
    show = partial(
        seen,
        standin=load(Fetch).standin.model_copy(update={"seed": SEED}),
        described=champion.survey.model_dump_json(),
        limits_mpc=limits,
    )
    with ProcessPoolExecutor(mp_context=get_context("forkserver")) as pool:
        shown = list(pool.map(show, range(galaxies)))
    images = np.stack([views[0] for views, _ in shown])
    D_mpc = np.array([distances[0] for _, distances in shown])
    p = distances_given_image(champion, outputs(champion, images), prior_named("training"))
    return p, D_mpc


def on_a_sky(mock: Mock, p: Array, grid_mpc: Array, D_mpc: Array, seed: int) -> Galaxies:
    """The galaxies with positions and velocities of their own."""
    towards, cz = on_the_sky(mock, D_mpc, np.random.default_rng(seed))
    return Galaxies(p, grid_mpc, cz / mock.H0_kms_mpc, np.zeros(len(D_mpc)), towards)


def main() -> None:
    """Print and write a table of one row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--galaxies", type=int, default=250)
    parser.add_argument("--skies", type=int, default=100)
    chosen = parser.parse_args()
    with one_sentence():
        champion = load_champion(load(Promote).model)
        p, D_mpc = densities(champion, chosen.galaxies)
        mock = Mock(
            sigma_v_kms=champion.sigma_v_kms, H0_kms_mpc=champion.H0_kms_mpc, hidden_deg=0.0
        )
        found = [
            fit_flow([on_a_sky(mock, p, distance_grid(champion), D_mpc, seed)], mock.H0_kms_mpc)
            for seed in range(chosen.skies)
        ]
        V = np.array([np.append(one.V_kms, one.zero_point) for one in found])
        errors = np.array([np.sqrt(np.diag(one.covariance)) for one in found])
        cells = judged(mock, V, errors)[:4]
        text = (
            f"{chosen.galaxies} stand-in galaxies, {chosen.skies} skies: along the flow of "
            f"{np.linalg.norm(mock.flow_kms):.0f} km/s {cells[0]} km/s, scatter {cells[1]}, stated "
            f"error {cells[2]}, 68 % coverage {cells[3]}; zero point "
            f"{mean_said(100 * V[:, 3], 2)} %, stated error {100 * errors[:, 3].mean():.2f}"
        )
        print(text)
        chosen.out.mkdir(parents=True, exist_ok=True)
        (chosen.out / "standins.txt").write_text(text + "\n")


if __name__ == "__main__":
    main()
