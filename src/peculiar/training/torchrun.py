"""Train one network with several processes that `torchrun` starts.

Each process learns from its share of every batch, and torch's `DistributedDataParallel` averages
the gradients (Li et al. 2020). Without batch normalisation the weights equal those of a single
process. Without torchrun there is one process, of rank 0, and these functions change nothing.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from peculiar.core.errors import InputError
from peculiar.networks.heads import Network

Learn = Callable[
    [Tensor, Tensor], tuple[Tensor, Tensor]
]  # see `peculiar.networks.heads.Network.learn`
LEAST = 2  # images in a share: batch normalisation needs two


@contextmanager
def joined() -> Iterator[None]:
    """Join the processes that torchrun started, each with its own GPU if there are any.

    Raises
    ------
    InputError
        When this machine has GPUs, but fewer than processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    gpus, local = torch.cuda.device_count(), int(os.environ["LOCAL_RANK"])
    if gpus:
        if local >= gpus:
            raise InputError(f"torchrun: --nproc-per-node is more than the {gpus} GPUs: lower it")
        torch.cuda.set_device(local)
    distributed.init_process_group("nccl" if gpus else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """Number of this process, 0 for the one that writes."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """Number of processes that train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def shares(pieces: Iterable[NDArray[np.integer]]) -> list[NDArray[np.integer]]:
    """Shares of the batches for this process, of equal size; a remainder is left out.

    Raises
    ------
    InputError
        When no batch is large enough to be shared.
    """
    among = world_size()
    if among == 1:
        return list(pieces)
    divisible = [piece[: len(piece) // among * among] for piece in pieces]
    shares_of_this = [piece[rank() :: among] for piece in divisible if len(piece) >= LEAST * among]
    if not shares_of_this:
        raise InputError(
            f"torchrun: no batch has {LEAST} images for each of {among} processes: raise the "
            "network's batch_size in params.yaml, or lower --nproc-per-node"
        )
    return shares_of_this


class _Learner(nn.Module):
    """`learn` as a `forward`, which `DistributedDataParallel` calls."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, scaled: Tensor, labels_mpc: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.learn(scaled, labels_mpc)


def learner(network: Network) -> Learn:
    """`network.learn`; its backward pass averages the gradients of all processes."""
    if world_size() == 1:
        return network.learn
    return DistributedDataParallel(_Learner(network))


def own_stream(rng: np.random.Generator) -> np.random.Generator:
    """The generator, or one spawned from it for this process."""
    return rng if world_size() == 1 else rng.spawn(world_size())[rank()]


def summed(value: float, device: torch.device) -> float:
    """Sum of a value over all processes."""
    if world_size() == 1:
        return value
    total = torch.tensor(value, dtype=torch.float64, device=device)
    distributed.all_reduce(total)
    return float(total)


def agreed(value: float, device: torch.device) -> float:
    """The value of rank 0, so that all processes take the same decision."""
    return float(agreed_values(np.array([value]), device)[0])


def agreed_values(values: NDArray[np.float64], device: torch.device) -> NDArray[np.float64]:
    """`agreed` for several values, (n,)."""
    if world_size() == 1:
        return values
    first = torch.from_numpy(values.copy()).to(device)
    distributed.broadcast(first, src=0)
    return first.numpy(force=True)
