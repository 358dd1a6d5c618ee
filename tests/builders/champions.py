"""Champions made by hand."""

import numpy as np
import torch

from peculiar.registry.champion import Champion


def brightness(images):
    """A network that predicts its own input's mean, so that the input can be checked."""
    return images.mean(dim=(1, 2, 3))


def mean_champion(**changes):
    """A champion of r-band images of 0.396 arcsec pixels."""
    values = {
        "network": brightness,
        "grid_mpc": None,
        "version": "1",
        "bands": "r",
        "pixels": 300,
        "pixel_scale_arcsec": 0.396,
        "dimming": "physical",
        "instrument": None,
        "data_source": "stand-in",
        "sigma_D_mpc": 5.0,
        "sigma_v_kms": 400.0,
        "H0_kms_mpc": 70.0,
    }
    return Champion(**(values | changes))


GRID = np.linspace(50.5, 99.5, 50)


def brightness_distribution(images):
    """p(D | image) on `GRID`, skewed, of a place and width that the image tells."""
    level = images.flatten(1).double()
    middle, width = 60 + 30 * level[:, :1].tanh(), 3 + 5 * level.std(dim=1, keepdim=True).tanh()
    z = (torch.from_numpy(GRID) - middle) / width
    return (-0.5 * z**2 + 0.5 * z.tanh()).softmax(dim=-1)
