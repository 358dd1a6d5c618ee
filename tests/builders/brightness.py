"""Images whose brightness depends on the distance, and a small network that can learn it."""

import numpy as np
import torch

from builders.networks import network_section
from peculiar.core.photometry import surface_brightness
from peculiar.networks.heads import Prior, build

CPU = torch.device("cpu")
N = 200
D = np.random.default_rng(0).uniform(50, 100, N)
TRAIN, VALIDATION, TEST = np.split(np.random.default_rng(1).permutation(N), [140, 170])
PRIOR = Prior(np.linspace(50.5, 99.5, 50), np.full(50, 1 / 50), 2.0)


class Recorder:
    """Images whose brightness depends on the distance; they record the requested rows."""

    def __init__(self):
        noise = np.random.default_rng(2).normal(1, 0.02, (N, 1, 8, 8))
        level = surface_brightness(24, "r") * np.sinh(D / 50)
        self.images = (level[:, None, None, None] * noise).astype(np.float32)
        self.shape = self.images.shape
        self.asked = []

    def __getitem__(self, rows):
        self.asked.append(np.array(rows))
        return self.images[rows]


class Views:
    """Fresh views that are the stored images and labels; they record the requested rows."""

    def __init__(self, labels_mpc=D):
        self.images = torch.from_numpy(Recorder().images)
        self.labels = torch.tensor(labels_mpc, dtype=torch.float32)
        self.asked = []

    def __call__(self, rows):
        self.asked.append(np.array(rows))
        return lambda: (self.images[rows], self.labels[rows])


def network(seed=1, head="point", batch_norm=False, family="cnn"):
    layered = {"layers": ({"filters": 8, "kernel": 3, "stride": 2},)} if family == "cnn" else {}
    spec = network_section(family, head=head, batch_norm=batch_norm, **layered)
    return build(spec, ["r"], 8, target=(50.0, 50.0), prior=PRIOR, seed=seed)
