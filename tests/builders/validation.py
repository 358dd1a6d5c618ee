"""Predictions of the validation split."""

import numpy as np


def validation_table(error_kms, seed=0, galaxies=50):
    """Four views of each galaxy, which err together, by one error a galaxy of this deviation."""
    rng = np.random.default_rng(seed)
    galaxy = np.repeat(np.arange(galaxies), 4)
    v = np.random.default_rng(99).normal(0, 400, len(galaxy))
    wrong = error_kms * np.repeat(rng.normal(size=galaxies), 4)
    return {
        "galaxy": galaxy,
        "camera": np.tile(np.arange(4), galaxies),
        "D_z_mpc": v / 70,
        "v_kms": v,
        "v_hat_kms": v + wrong,
    }
