"""Training: images/s of an epoch of ours, of the loop most users write, and of Lightning.

Ours is `peculiar.training.loop.fit` with the images on the device; an epoch includes its
validation. The others read shards through a `Dataset`, scale each image, and train in float32 with
a `DataLoader` and as many workers as cores; they do no validation.
"""

import copy
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import Machine, Timing, Work, by_turns, threads
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from peculiar.core.dataset import Shards
from peculiar.core.params import load
from peculiar.core.photometry import BANDS, surface_brightness
from peculiar.core.shard import ShardWriter
from peculiar.networks.heads import Network, build
from peculiar.networks.likelihood import Prior
from peculiar.networks.params import NetworkSection
from peculiar.training.loop import fit
from peculiar.training.params import Train

GROUP = "training"
PIXELS = 128


def make_shards(folder: Path, number: int, pixels: int = PIXELS) -> tuple[Shards, NDArray[Any]]:
    """Random images (image, band, y, x) as `observe` writes them, and their distances, Mpc."""
    rng = np.random.default_rng(0)
    level = float(surface_brightness(24, "r"))
    with ShardWriter(folder, number, per_shard=256) as shards:
        for _ in range(number):
            image = rng.lognormal(0, 1, (len(BANDS), pixels, pixels))
            shards.append((level * image).astype(np.float32))
    return Shards(folder), rng.uniform(50, 100, number)


def spec_of(name: str, **changes: Any) -> NetworkSection:
    """A network of `params.yaml`, fed with stored images."""
    params = load(Train, Path(__file__).parent.parent / "params.yaml")
    return params.specs[name].model_copy(update={"fresh": False, "views": None, **changes})


def network_of(spec: NetworkSection, pixels: int = PIXELS) -> Network:
    """With fresh weights."""
    grid = np.linspace(50, 100, 63)
    prior = Prior(grid, np.full(63, 1 / 63), 5.7)
    return build(spec, BANDS, pixels, target=(50.0, 50.0), prior=prior, seed=1)


class Stored(Dataset[tuple[Tensor, Tensor]]):
    """What most users write: one image, scaled, at a time."""

    def __init__(self, images: Shards, distance_mpc: NDArray[Any], front: nn.Module):
        self.images, self.front = images, copy.deepcopy(front).cpu()
        self.distance = torch.tensor(distance_mpc, dtype=torch.float32)

    def __len__(self) -> int:
        return len(self.distance)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        """What the front gives of image `row`, and its distance, Mpc."""
        with torch.no_grad():
            scaled = self.front(torch.from_numpy(self.images[np.array([row])]))
        return scaled[0], self.distance[row]


def loader_of(data: Stored, spec: NetworkSection, workers: int) -> DataLoader[Any]:
    """Shuffled batches from workers."""
    return DataLoader(data, spec.batch_size, shuffle=True, num_workers=workers, drop_last=True)


def plain_step(
    network: Network, optimiser: torch.optim.Optimizer, batch: Tensor, labels: Tensor
) -> float:
    """One step as most users write it; the loss is read each time."""
    loss, _ = network.learn(batch, labels)
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return loss.item()


def plain(
    data: Stored, spec: NetworkSection, workers: int, device: torch.device
) -> Callable[[], float]:
    """An epoch of the plain loop, s."""
    network = network_of(spec).to(device).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=spec.learning_rate)

    def epoch() -> float:
        start = time.perf_counter()
        for batch, labels in loader_of(data, spec, workers):
            plain_step(network, optimiser, batch.to(device), labels.to(device))
        return time.perf_counter() - start

    return epoch


def lightning(
    data: Stored, spec: NetworkSection, workers: int, device: torch.device
) -> Callable[[], float]:
    """An epoch of Lightning's Trainer without logger and checkpoints, s: the second of two."""
    import logging

    from lightning import LightningModule, Trainer

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Learner(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.started = network_of(spec), [0.0]

        def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
            return self.network.learn(*batch)[0]

        def on_train_epoch_start(self) -> None:
            self.started.append(time.perf_counter())

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.network.parameters(), lr=spec.learning_rate)

    def epoch() -> float:
        learner = Learner()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer = Trainer(
                max_epochs=2,
                accelerator="gpu" if device.type == "cuda" else "cpu",
                devices=1,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            trainer.fit(learner, loader_of(data, spec, workers))
        return time.perf_counter() - learner.started[-1]

    return epoch


def ours(
    images: Shards, distance_mpc: NDArray[Any], spec: NetworkSection, device: torch.device
) -> Callable[[], float]:
    """An epoch of `fit`, s: the second of two."""
    rows = np.arange(len(distance_mpc))
    held = max(2, len(rows) // 10)

    def epoch() -> float:
        ends: list[float] = []
        fit(
            network_of(spec),
            images,
            distance_mpc,
            rows,
            rows[:held],
            spec.model_copy(update={"epochs": 2}),
            rng=np.random.default_rng(0),
            device=device,
            on_epoch=lambda *_: ends.append(time.perf_counter()),
        )
        return ends[1] - ends[0]

    return epoch


def variant(
    images: Shards,
    distance_mpc: NDArray[Any],
    spec: NetworkSection,
    device: torch.device,
    step: Callable[[Network], Callable[[Tensor, Tensor], Tensor]],
) -> Callable[[], float]:
    """An epoch over images on the device with another way to the loss, s."""
    network = network_of(spec).to(device).to(memory_format=torch.channels_last).train()
    loss_of = step(network)
    optimiser = torch.optim.AdamW(network.parameters(), lr=spec.learning_rate, weight_decay=0)
    with torch.no_grad():
        kept = network.front(torch.from_numpy(images[np.arange(len(distance_mpc))]).to(device))
    kept = kept.contiguous(memory_format=torch.channels_last)
    labels = torch.tensor(distance_mpc, dtype=torch.float32, device=device)

    def epoch() -> float:
        start = time.perf_counter()
        for at in torch.split(torch.randperm(len(labels)), spec.batch_size):
            loss = loss_of(kept[at], labels[at])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        return time.perf_counter() - start + 0 * loss.item()

    return epoch


def eager(network: Network) -> Callable[[Tensor, Tensor], Tensor]:
    """As ours."""
    return lambda batch, labels: network.learn(batch, labels)[0]


def compiled(network: Network) -> Callable[[Tensor, Tensor], Tensor]:
    """By torch.compile, which wants a C++ compiler at run time."""
    return torch.compile(lambda batch, labels: network.learn(batch, labels)[0])


def operations(spec: NetworkSection) -> float:
    """Multiplications and additions of one image, there and back, as torch counts them."""
    network = network_of(spec).train()
    with torch.no_grad():
        scaled = network.front(torch.ones(2, len(BANDS), PIXELS, PIXELS))
    with FlopCounterMode(display=False) as counter:
        network.learn(scaled, torch.ones(2))[0].backward()  # type: ignore[no-untyped-call]
    return float(counter.get_total_flops()) / 2


def rows(machine: Machine, repeats: int, quick: bool, device: torch.device) -> Iterator[Timing]:
    """The paper's smallest network, ResNet18 and ours."""
    threads(machine.cores)
    number = 64 if quick else 512
    aim = 10.0 if device.type == "cuda" else 4.0
    with tempfile.TemporaryDirectory() as folder:
        images, distance_mpc = make_shards(Path(folder), number)
        for name in ("cnn2", "resnet18", "starlet"):
            spec = spec_of(name)
            n = number if name != "resnet18" or device.type == "cuda" else 32
            front = network_of(spec).front
            data = Stored(images, distance_mpc[:n], front)
            settings = (spec, machine.cores, device)
            competitors = {
                "ours": ours(images, distance_mpc[:n], spec, device),
                "Dataset, DataLoader, eager": plain(data, *settings),
                "Lightning": lightning(data, *settings),
            }
            if name != "starlet":
                half = spec.model_copy(update={"precision": "bfloat16"})
                competitors["ours in bfloat16"] = ours(images, distance_mpc[:n], half, device)
            if name == "cnn2":
                given = (images, distance_mpc[:n], spec, device)
                competitors["plain loop, images on the device"] = variant(*given, eager)
                if not quick:
                    competitors["the same by torch.compile"] = variant(*given, compiled)
            yield from by_turns(
                Work(
                    GROUP,
                    f"{name}, {n} images, batches of {spec.batch_size}, {device.type}",
                    "images/s",
                    n - n % spec.batch_size,
                    competitors,
                    limit=1 / machine.seconds(operations(spec), 0),
                    limit_by="operations over the matrix product's",
                    aims={"Dataset, DataLoader, eager": aim} if name == "cnn2" else {},
                ),
                min(repeats, 3),
            )


def profile() -> str:
    """Where a step of cnn2 goes on one core, by torch's profiler, ms."""
    threads(1)
    spec = spec_of("cnn2")
    network = network_of(spec).to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=spec.learning_rate, weight_decay=0)
    batch = torch.randn(spec.batch_size, len(BANDS), PIXELS, PIXELS)
    batch, labels = batch.contiguous(memory_format=torch.channels_last), torch.ones(len(batch))
    for _ in range(3):
        plain_step(network, optimiser, batch, labels)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
        for _ in range(10):
            plain_step(network, optimiser, batch, labels)
    events = sorted(found.key_averages(), key=lambda e: -e.self_cpu_time_total)[:6]
    lines = [f"{e.key} {e.self_cpu_time_total / 1e4:.2f}" for e in events]
    return f"a step of cnn2, {spec.batch_size} images, one core, ms: " + ", ".join(lines)
