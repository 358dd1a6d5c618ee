"""Train one network on one observed dataset, and measure it on one split."""

from collections.abc import Callable

import astropy.units as u
import numpy as np
import torch
from numpy.typing import NDArray

from peculiar.fitting import Scaled, fit, predict, scaled_images, target_scaling
from peculiar.galaxies import Observed
from peculiar.hubble import peculiar_velocity_kms
from peculiar.metrics import distance_error_mpc, measure
from peculiar.networks import DistanceNetwork, build, softening_of
from peculiar.params_networks import FitSection, NetworkSection
from peculiar.placing import best_device
from peculiar.posterior import SIGMAS, Velocity, velocity

Array = NDArray[np.float64]


def column_mpc(observed: Observed, name: str) -> Array:
    """A distance column of the image table, (image,), Mpc."""
    return np.asarray(observed.table[name].to_value(u.Mpc))


def train_network(
    observed: Observed,
    spec: NetworkSection,
    settings: FitSection,
    on_epoch: Callable[[int, dict[str, float]], None],
    scaled: Scaled | None = None,
) -> DistanceNetwork:
    """A network trained on the training split, watched on the validation split.

    Parameters
    ----------
    observed : Observed
        Images and table.
    spec : NetworkSection
        Architecture, epochs and learning rate.
    settings : FitSection
        Label, normalisation, batch size, seed.
    on_epoch : callable
        See `peculiar.fitting.fit`.
    scaled : callable, optional
        From `share_images`, when several networks are trained with the same settings.

    Returns
    -------
    DistanceNetwork
        On the device it was trained on.
    """
    meta = observed.table.meta
    targets = column_mpc(observed, {"D": "distance_mpc", "D_z": "distance_z_mpc"}[settings.label])
    train = observed.rows("train")
    scaling = meta["distribution"] if settings.normalise else "none"
    network = build(
        spec.family,
        spec.layers,
        meta["bands"],
        observed.images.shape[-1],
        batch_norm=spec.batch_norm,
        softening_mag_arcsec2=settings.softening_mag_arcsec2,
        target=target_scaling(targets[train], scaling),
        seed=settings.seed,
    )
    with torch.backends.cudnn.flags(deterministic=True):
        fit(
            network,
            observed.images,
            targets,
            train,
            observed.rows("validation"),
            epochs=spec.epochs,
            batch_size=settings.batch_size,
            learning_rate=spec.learning_rate,
            augment=spec.augment,
            schedule=spec.schedule,
            rng=np.random.default_rng(settings.seed),
            device=best_device(),
            on_epoch=on_epoch,
            scaled=scaled,
        )
    return network


def share_images(observed: Observed, settings: FitSection) -> Scaled:
    """Training and validation images, read and scaled once for several networks."""
    rows = np.concatenate([observed.rows("train"), observed.rows("validation")])
    device = best_device()
    softening = softening_of(observed.table.meta["bands"], settings.softening_mag_arcsec2)
    return scaled_images(softening.to(device), observed.images, rows, device)


def predict_split(network: DistanceNetwork, observed: Observed, split: str) -> Array:
    """Predicted distances of one split, in the order of `observed.rows(split)`, Mpc."""
    device = best_device()
    return predict(network.to(device), observed.images, observed.rows(split), device)


def calibrate(observed: Observed, split: str, D_p_mpc: Array) -> float:
    """Error sigma_D of predicted distances from the redshift distances of a split, Mpc."""
    meta = observed.table.meta
    D_z = column_mpc(observed, "distance_z_mpc")[observed.rows(split)]
    return distance_error_mpc(D_z, D_p_mpc, meta["sigma_v_kms"] / meta["H0_kms_mpc"])


def distance_range_mpc(observed: Observed) -> tuple[float, float] | None:
    """Least and greatest distance of a dataset, Mpc; None where it has no ends."""
    ends = observed.table.meta["range_mpc"]
    return None if ends is None else (float(ends[0]), float(ends[1]))


def validate(
    network: DistanceNetwork, observed: Observed
) -> tuple[float, dict[str, Array], dict[str, float]]:
    """sigma_D (Mpc), `predictions` and `measures` of a network on the validation split."""
    D_p = predict_split(network, observed, "validation")
    sigma_D = calibrate(observed, "validation", D_p)
    predicted = predictions(observed, "validation", D_p, sigma_D, distance_range_mpc(observed))
    return sigma_D, predicted, measures(predicted, observed.table.meta["H0_kms_mpc"])


def predictions(
    observed: Observed,
    split: str,
    D_p_mpc: Array,
    sigma_D_mpc: float,
    range_mpc: tuple[float, float] | None,
) -> dict[str, Array]:
    """Distances and velocities of one split, true and predicted.

    Parameters
    ----------
    observed : Observed
        Images and table.
    split : str
        Split that `D_p_mpc` belongs to.
    D_p_mpc : ndarray, (n,)
        Predicted distances, Mpc.
    sigma_D_mpc : float
        Their error, from `calibrate` on the validation split, Mpc.
    range_mpc : tuple of float or None
        Least and greatest distance, where they may be used (`distance_range_mpc`), Mpc.

    Returns
    -------
    dict of str to ndarray, (n,)
        galaxy, camera; D_mpc, D_z_mpc, D_p_mpc; v_kms (true; NaN for measured distances, where
        cz less a flow model's is mostly the motion of the Sun), v_p_kms (the paper's prediction),
        v_hat_kms and v_error_kms (posterior mean and deviation), v_low68_kms, v_high68_kms,
        v_low95_kms, v_high95_kms (its intervals).
    """
    rows, meta = observed.rows(split), observed.table.meta
    D = column_mpc(observed, "distance_mpc")[rows]
    D_z = column_mpc(observed, "distance_z_mpc")[rows]
    H0 = meta["H0_kms_mpc"]
    v = velocity(D_p_mpc, D_z, sigma_D_mpc, meta["sigma_v_kms"], H0, range_mpc)
    unknown = meta["distribution"] == "measured"
    return {
        "galaxy": np.asarray(observed.table["galaxy"])[rows],
        "camera": np.asarray(observed.table["camera"])[rows],
        "D_mpc": D,
        "D_z_mpc": D_z,
        "D_p_mpc": D_p_mpc,
        "v_kms": np.full(len(D), np.nan) if unknown else peculiar_velocity_kms(D_z, D, H0),
        "v_p_kms": peculiar_velocity_kms(D_z, D_p_mpc, H0),
        **velocity_columns(v),
    }


def velocity_columns(v: Velocity) -> dict[str, Array]:
    """Columns of `predictions` that hold the posterior of velocities."""
    return {
        "v_hat_kms": v.mean_kms,
        "v_error_kms": v.deviation_kms,
        **{f"v_low{level}_kms": end for level, end in v.low_kms.items()},
        **{f"v_high{level}_kms": end for level, end in v.high_kms.items()},
    }


def measures(predicted: dict[str, Array], H0_kms_mpc: float) -> dict[str, float]:
    """All `peculiar.metrics.METRICS` of what `predictions` returned."""
    return measure(
        predicted["D_mpc"],
        predicted["D_z_mpc"],
        predicted["D_p_mpc"],
        predicted["v_kms"],
        predicted["v_hat_kms"],
        {
            level: (predicted[f"v_low{level}_kms"], predicted[f"v_high{level}_kms"])
            for level in SIGMAS
        },
        H0_kms_mpc,
    )
