"""Load the champion: the promoted network, with the description in its registered version."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from peculiar.core.errors import InputError
from peculiar.core.survey import OFFERED, Dimming, Instrument, Survey
from peculiar.registry import models
from peculiar.registry.tags import check_agrees, description_of
from peculiar.runs import tracking
from peculiar.runs.validity import Validity


@dataclass(frozen=True)
class Champion:
    """A promoted network and the description in its registered version.

    Attributes
    ----------
    network : torch.nn.Module
        Maps surface brightness (n, band, y, x), W/m/m^2/sr, to distances (n,), Mpc, or to
        p(D | image), (n, G), under a flat prior (but see `flat`).
    grid_mpc : ndarray, (G,), or None
        Distances of p(D | image), Mpc; None if the network predicts one distance.
    version : str
        Number of the version in the registry.
    survey : Survey
        Properties of its training images: bands, pixels, pixel scale, dimming, instrument, H0 and
        sigma_v.
    sigma_D_mpc : float
        Error of its distances on the validation split, Mpc.
    model : str
        Name in the registry.
    digest : str
        SHA-256 of the weights.
    validity : Validity or None
        Ranges of its training images; None if its version does not record them.
    flat : bool
        Whether p(D | image) has a flat prior; in versions before 2026-11-26 it has the law of the
        training distances.
    """

    network: torch.nn.Module
    grid_mpc: NDArray[np.float64] | None
    version: str
    survey: Survey
    sigma_D_mpc: float
    model: str = ""
    digest: str = ""
    validity: Validity | None = None
    flat: bool = True

    def __repr__(self) -> str:
        """Five lines: version, images, range of distances, errors, and training images."""
        span = "unknown" if self.range_mpc is None else "{:g} to {:g} Mpc".format(*self.range_mpc)
        gives = f"sigma_D = {self.sigma_D_mpc:.1f} Mpc"
        if self.grid_mpc is not None:
            gives = f"p(D | image) on a grid of {len(self.grid_mpc)} distances"
        side, scale = self.pixels, self.pixel_scale_arcsec
        seen = "no sky and no noise" if self.instrument is None else "sky, seeing and noise"
        return "\n".join(
            (
                f"Champion {self.model} version {self.version}, trained on {self.data_source}",
                f"  images     bands {self.bands}, {side} x {side} pixels of {scale:g} arcsec",
                f"  distances  {span}",
                f"  errors     {gives}; sigma_v = {self.sigma_v_kms:g} km/s, "
                f"H0 = {self.H0_kms_mpc:g} km/s/Mpc",
                f"  training   images with {seen}",
            )
        )

    @property
    def bands(self) -> str:
        """SDSS bands of the images, one letter each, in order."""
        return "".join(self.survey.bands)

    @property
    def pixels(self) -> int:
        """Side of the images, pixels."""
        return self.survey.pixels

    @property
    def pixel_scale_arcsec(self) -> float:
        """Pixel scale of the images, arcsec."""
        return self.survey.pixel_scale_arcsec

    @property
    def dimming(self) -> Dimming:
        """How the training images were dimmed."""
        return self.survey.dimming

    @property
    def instrument(self) -> Instrument | None:
        """Sky, seeing and noise of the training images; None if they have none."""
        return self.survey.instrument

    @property
    def data_source(self) -> str:
        """Origin of the training images, for example "stand-in"."""
        return self.survey.source

    @property
    def sigma_v_kms(self) -> float:
        """Deviation of peculiar velocities, km/s."""
        return self.survey.sigma_v_kms

    @property
    def H0_kms_mpc(self) -> float:
        """Hubble constant, km/s/Mpc."""
        return self.survey.H0_kms_mpc

    @property
    def range_mpc(self) -> tuple[float, float] | None:
        """Least and greatest training distance, Mpc; None if not recorded."""
        if self.validity is not None:
            return self.validity.distance_mpc
        if self.survey.range_mpc is not None:
            return self.survey.range_mpc
        if self.grid_mpc is not None and not self.flat:
            half = (self.grid_mpc[1] - self.grid_mpc[0]) / 2
            return float(self.grid_mpc[0] - half), float(self.grid_mpc[-1] + half)
        return None

    def describe(self) -> dict[str, str | float]:
        """Metadata for tables of its predictions; FITS headers can hold the keys."""
        return {
            "model": self.model,
            "version": self.version,
            "digest": self.digest,
            "training": self.data_source,
            "bands": self.bands,
            "pixscale": self.pixel_scale_arcsec,
            "H0": self.H0_kms_mpc,
            "sigma_v": self.sigma_v_kms,
            "ranges": "unknown" if self.validity is None else "known",
            **dict(zip(OFFERED, self.range_mpc or (), strict=False)),
        }


def weights_digest(network: torch.nn.Module) -> str:
    """SHA-256 of a network's weights and buffers, with their names."""
    digest = sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_champion(
    model: str, store: Path | None = None, which: str = tracking.CHAMPION
) -> Champion:
    """Load the champion, or another version of `model`, without writing to the store.

    Parameters
    ----------
    model : str
        Name in MLflow's registry.
    store : Path, optional
        Folder of the store; by default `peculiar.runs.store.store_folder()`.
    which : str
        Number or alias of the version.

    Returns
    -------
    Champion

    Raises
    ------
    InputError
        When there is no such version, or its files or tags are missing, changed or not valid.
    """
    where = tracking.open_to_read(store)
    if which == tracking.CHAMPION and which not in models.aliases_of(model):
        raise InputError(
            f"{where} has no champion of {model!r}: run `make repro`, or "
            "`dvc repro --force --single-item promote` where everything else is up to date"
        )
    version = models.find(model, which)
    name = models.name_of(version)
    blueprint, network = models.load(version)
    described = description_of(version.tags, name)
    check_agrees(described, blueprint, name)
    return Champion(
        network=network,
        grid_mpc=None if described.grid_mpc is None else np.array(described.grid_mpc),
        version=str(version.version),
        survey=described.survey,
        sigma_D_mpc=described.sigma_D_mpc,
        model=model,
        digest=weights_digest(network),
        validity=described.validity,
        flat=described.validity is not None and described.validity.prior == "flat",
    )
