"""The promoted network, and what its version in the registry says of it."""

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from peculiar.core.errors import InputError
from peculiar.core.survey import Dimming, Instrument, Survey
from peculiar.registry import models
from peculiar.registry.tags import survey_of
from peculiar.runs import tracking
from peculiar.runs.validity import Validity


@dataclass(frozen=True)
class Champion:
    """The promoted network and what its version in the registry says of it.

    Attributes
    ----------
    network : torch.nn.Module
        Surface brightness (n, band, y, x), W/m/m^2/sr, to distances (n,), Mpc, or p(D | image),
        (n, G).
    grid_mpc : ndarray, (G,), or None
        Distances that p(D | image) is for, Mpc; no galaxy is put elsewhere. None for distances.
    version : str
        Version in the registry.
    survey : Survey
        What its training images have in common: bands, pixels, pixel scale, dimming, instrument,
        H0 and sigma_v.
    sigma_D_mpc : float
        Error of its distances on the validation split, Mpc.
    model : str
        Name in the registry.
    digest : str
        SHA-256 of the weights.
    validity : Validity or None
        What its training images spanned; None where its version does not say.
    """

    network: torch.nn.Module
    grid_mpc: NDArray[np.float64] | None
    version: str
    survey: Survey
    sigma_D_mpc: float
    model: str = ""
    digest: str = ""
    validity: Validity | None = None

    def __repr__(self) -> str:
        """Five lines: what it is, its images, its distances, its errors, what it was trained on."""
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
        """What the training images were seen with; None where they had neither sky nor seeing."""
        return self.survey.instrument

    @property
    def data_source(self) -> str:
        """What the training images are of."""
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
        """Least and greatest distance it was trained on, Mpc; None where it is not known."""
        if self.validity is not None:
            return self.validity.distance_mpc
        if self.grid_mpc is not None:
            half = (self.grid_mpc[1] - self.grid_mpc[0]) / 2
            return float(self.grid_mpc[0] - half), float(self.grid_mpc[-1] + half)
        return None

    def describe(self) -> dict[str, str | float]:
        """What a table of its predictions says of it; keys that a FITS header can hold."""
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
    """Load the champion, or another version of `model`. Nothing is written.

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
        When there is none.
    """
    where = tracking.open_to_read(store)
    if which == tracking.CHAMPION and tracking.aliased(model) is None:
        raise InputError(
            f"{where} has no champion of {model!r}: run `make repro`, or "
            "`dvc repro --force --single-item promote` where everything else is up to date"
        )
    version = models.find(model, which)
    tags = version.tags
    network = models.load(version)
    return Champion(
        network=network,
        grid_mpc=np.array(json.loads(tags["grid_mpc"])) if tags.get("grid_mpc") else None,
        version=str(version.version),
        survey=survey_of(tags, models.name_of(version)),
        sigma_D_mpc=float(tags["sigma_D_mpc"]),
        model=model,
        digest=weights_digest(network),
        validity=Validity(**json.loads(tags["validity"])) if tags.get("validity") else None,
    )
