"""Predict distances and velocities of the galaxies of one split, and measure their errors."""

import astropy.units as u
import numpy as np
from numpy.typing import ArrayLike, NDArray

from peculiar.core.dataset import Observed
from peculiar.core.device import best_device
from peculiar.networks.heads import DistanceNetwork, Network
from peculiar.networks.inference import run_network
from peculiar.training.prior import law_in_force
from peculiar.velocity.hubble import distance_given_redshift_mpc, peculiar_velocity_kms
from peculiar.velocity.metrics import distance_error_mpc, measures
from peculiar.velocity.posterior import Velocity, normal, velocity_from_distance, velocity_on_grid

Array = NDArray[np.float64]


def column_mpc(observed: Observed, name: str) -> Array:
    """A distance column of the image table, (image,), Mpc."""
    return np.asarray(observed.table[name].to_value(u.Mpc))


def predict_split(network: Network, observed: Observed, split: str) -> Array:
    """Run a network on one split, with the law of the dataset's distances as the prior.

    Parameters
    ----------
    network : DistanceNetwork or DistributionNetwork
        Trained network.
    observed : Observed
        Dataset.
    split : str
        One of `peculiar.core.dataset.SPLITS`.

    Returns
    -------
    ndarray
        Distances (n,), Mpc, or p(D | image), (n, G), in the order of `observed.rows(split)`.
    """
    device = best_device()
    with law_in_force(network.to(device), observed):
        rows, doing = observed.rows(split), f"predicting ({split})"
        return run_network(network, observed.images, rows, device, doing)


def calibrate(observed: Observed, split: str, D_p_mpc: Array) -> float:
    """Estimate the error sigma_D, Mpc, of predicted distances (n,) from the D_z of a split."""
    D_z = column_mpc(observed, "distance_z_mpc")[observed.rows(split)]
    return distance_error_mpc(D_z, D_p_mpc, observed.survey.sigma_z_mpc)


def expected_mpc(output: Array, grid_mpc: ArrayLike | None) -> Array:
    """Predicted distances (n,), Mpc: the output of a point head, or the mean of p(D | image)."""
    return output if grid_mpc is None else output @ np.asarray(grid_mpc, dtype=float)


def velocity_of(
    observed: Observed,
    split: str,
    output: Array,
    sigma_D_mpc: float,
    grid_mpc: ArrayLike | None,
) -> Velocity:
    """Compute the posterior velocities of one split.

    Parameters
    ----------
    observed : Observed
        Dataset.
    split : str
        Split of `output`.
    output : ndarray, (n,) or (n, G)
        From `predict_split`, with the dataset's law of distances as the prior.
    sigma_D_mpc : float
        Error of a point head's distances, Mpc.
    grid_mpc : array_like, (G,), or None
        Distances of p(D | image), Mpc; None for a point head.

    Returns
    -------
    Velocity
        Posteriors of n velocities.
    """
    sigma_v, H0 = observed.survey.sigma_v_kms, observed.survey.H0_kms_mpc
    D_z = column_mpc(observed, "distance_z_mpc")[observed.rows(split)]
    if grid_mpc is None:
        return velocity_from_distance(
            output, D_z, sigma_D_mpc, sigma_v, H0, observed.survey.range_mpc
        )
    return velocity_on_grid(output, np.asarray(grid_mpc, dtype=float), D_z, sigma_v, H0)


def validate(
    network: Network, observed: Observed
) -> tuple[float, dict[str, Array], dict[str, float]]:
    """Measure a network on the validation split.

    Returns
    -------
    sigma_D_mpc : float
        Error of the distances, Mpc.
    predicted : dict of str to ndarray, (n,)
        See `prediction_columns`.
    metrics : dict of str to float
        See `peculiar.velocity.metrics.measures`.
    """
    output = predict_split(network, observed, "validation")
    grid = grid_of(network)
    sigma_D = calibrate(observed, "validation", expected_mpc(output, grid))
    predicted = predictions_of(observed, "validation", output, sigma_D, grid)
    return sigma_D, predicted, measures(predicted, observed.survey.H0_kms_mpc)


def grid_of(network: Network) -> Array | None:
    """Distances (G,) of p(D | image), Mpc; None for a point head."""
    if isinstance(network, DistanceNetwork):
        return None
    return network.head.grid_mpc.double().numpy(force=True)


def prediction_columns(
    observed: Observed, split: str, D_p_mpc: Array, v: Velocity
) -> dict[str, Array]:
    """Collect true and predicted distances and velocities of one split.

    Parameters
    ----------
    observed : Observed
        Dataset.
    split : str
        Split of the predictions.
    D_p_mpc : ndarray, (n,)
        Predicted distances, Mpc.
    v : Velocity
        Posterior velocities.

    Returns
    -------
    dict of str to ndarray, (n,)
        galaxy, camera; D_mpc, D_z_mpc, D_p_mpc; v_kms (true; NaN for measured distances, since
        cz minus that of a flow model is mostly the motion of the Sun), v_p_kms (the paper's
        prediction), v_hat_kms and v_error_kms (posterior mean and standard deviation),
        v_low68_kms, v_high68_kms, v_low95_kms, v_high95_kms (its central intervals), pit
        (posterior probability of a velocity below v_kms).
    """
    rows, survey = observed.rows(split), observed.survey
    D = column_mpc(observed, "distance_mpc")[rows]
    D_z = column_mpc(observed, "distance_z_mpc")[rows]
    H0 = survey.H0_kms_mpc
    v_true = np.full(len(D), np.nan) if survey.measured else peculiar_velocity_kms(D_z, D, H0)
    return {
        "galaxy": np.asarray(observed.table["galaxy"])[rows],
        "camera": np.asarray(observed.table["camera"])[rows],
        "D_mpc": D,
        "D_z_mpc": D_z,
        "D_p_mpc": D_p_mpc,
        "v_kms": v_true,
        "v_p_kms": peculiar_velocity_kms(D_z, D_p_mpc, H0),
        **velocity_columns(v),
        "pit": v.pit(v_true),
    }


def predictions_of(
    observed: Observed,
    split: str,
    output: Array,
    sigma_D_mpc: float,
    grid_mpc: ArrayLike | None,
) -> dict[str, Array]:
    """Compute `prediction_columns` from the output of a network; parameters as in `velocity_of`."""
    v = velocity_of(observed, split, output, sigma_D_mpc, grid_mpc)
    return prediction_columns(observed, split, expected_mpc(output, grid_mpc), v)


def velocity_columns(v: Velocity) -> dict[str, Array]:
    """Columns of `prediction_columns` with the posterior velocities."""
    return {
        "v_hat_kms": v.mean_kms,
        "v_error_kms": v.deviation_kms,
        **{f"v_low{level}_kms": end for level, end in v.low_kms.items()},
        **{f"v_high{level}_kms": end for level, end in v.high_kms.items()},
    }


def baselines(observed: Observed, split: str, prior_mpc: ArrayLike) -> dict[str, dict[str, Array]]:
    """Compute `prediction_columns` without images.

    `v = 0` takes D_z as the distance, `constant distance` the mean of the prior, and `E[D | D_z]`
    combines D_z with the prior. Without true velocities, only `constant distance` is given, since
    only it can be compared.

    Parameters
    ----------
    observed : Observed
        Dataset.
    split : str
        Split to predict.
    prior_mpc : array_like, (m,)
        Sample of the prior on distance, Mpc: the distances of the training split.

    Returns
    -------
    dict of str to dict
        `prediction_columns` by the name of the baseline.
    """
    survey, prior = observed.survey, np.asarray(prior_mpc, dtype=float)
    H0, sigma_v = survey.H0_kms_mpc, survey.sigma_v_kms
    D_z = column_mpc(observed, "distance_z_mpc")[observed.rows(split)]
    mean = np.full(len(D_z), prior.mean())
    of_mean = velocity_from_distance(mean, D_z, float(prior.std()), sigma_v, H0, None)
    constant = prediction_columns(observed, split, mean, of_mean)
    if survey.measured:
        return {"constant distance": constant}
    prior_v = normal(np.zeros(len(D_z)), np.full(len(D_z), sigma_v))
    expected, deviation = distance_given_redshift_mpc(D_z, prior, sigma_v / H0)
    # already a posterior, so it is not shrunk again
    v = normal(peculiar_velocity_kms(D_z, expected, H0), H0 * deviation)
    return {
        "v = 0": prediction_columns(observed, split, D_z, prior_v),
        "constant distance": constant,
        "E[D | D_z]": prediction_columns(observed, split, expected, v),
    }
