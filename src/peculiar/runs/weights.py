"""Weights of networks in safetensors: numbers with names, of which nothing is executed."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from peculiar.core.errors import InputError

if TYPE_CHECKING:  # slow to import
    from torch import Tensor

    from peculiar.networks.heads import Network

WEIGHTS = "weights.safetensors"


def write_weights(network: "Network", path: Path) -> None:
    """Write all weights and buffers of a network."""
    from safetensors.torch import save_file

    tensors = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    save_file(tensors, path)


def read_weights(network: "Network", path: Path, again: str, *, finite: bool = True) -> "Network":
    """Replace all weights and buffers of a network by those of a file.

    Parameters
    ----------
    network : DistanceNetwork or DistributionNetwork
        From `Blueprint.fresh_network`; it is changed.
    path : Path
        From `write_weights`.
    again : str
        How to get the file anew, which ends the error message.
    finite : bool
        Whether all numbers must be finite; those of a failed training are not.

    Returns
    -------
    DistanceNetwork or DistributionNetwork
        The network, on the CPU, channels last.

    Raises
    ------
    InputError
        When the file is missing or damaged, or a name, shape, dtype or number does not fit.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    reason = "its header is damaged"
    try:
        tensors = load_file(path)
        reason = _misfit(network.state_dict(), tensors, finite)
        if not reason:
            network.load_state_dict(tensors)
    except FileNotFoundError:
        raise InputError(f"{path} is missing: {again}") from None
    except (SafetensorError, RuntimeError, KeyError, ValueError) as error:
        lines = str(error).splitlines()  # torch's first line names the class alone
        reason = lines[1 if len(lines) > 1 else 0].strip() if lines else reason
    if reason:
        raise InputError(f"{path} does not hold this network ({reason}): {again}")
    return network.to(memory_format=torch.channels_last)


def _misfit(expected: Mapping[str, "Tensor"], found: Mapping[str, "Tensor"], finite: bool) -> str:
    """The first tensor that does not fit, in words; `load_state_dict` checks the names."""
    for name in sorted(expected.keys() & found.keys()):
        want, have = expected[name], found[name]
        if have.dtype != want.dtype:
            return f"{name} is {have.dtype}, not {want.dtype}"
        if have.shape != want.shape:
            return f"{name} has the shape {tuple(have.shape)}, not {tuple(want.shape)}"
        if finite and not have.isfinite().all():
            return f"{name} is not finite"
    return ""
