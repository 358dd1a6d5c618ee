"""Networks with a head: a distance, as in the paper, or p(D | image) learned from redshifts."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from peculiar.networks.bodies import body, front
from peculiar.networks.likelihood import DistanceHead, Prior
from peculiar.networks.params import NetworkSection, Precision
from peculiar.networks.scaling import check_crop


def all_turns(images: Tensor) -> list[Tensor]:
    """The eight rotations and reflections of images (n, band, y, x)."""
    turned = [torch.rot90(images, k, dims=(-2, -1)) for k in range(4)]
    return [*turned, *(image.flip(-1) for image in turned)]


def at_precision(body: nn.Module, scaled: Tensor, precision: Precision) -> Tensor:
    """Run a body with products in a precision; returns raw numbers (n, r), float32.

    Weights are always float32 (mixed precision; Micikevicius et al. 2018), and so is all that
    follows: one of the 256 steps of bfloat16 would be 0.2 Mpc.
    """
    with torch.autocast(scaled.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        raw: Tensor = body(scaled)
    return raw.float()


class DistanceNetwork(nn.Module):
    """Images in physical units to distances in Mpc; both scalings are kept with the weights.

    Parameters
    ----------
    front : nn.Module
        Surface brightness (n, band, y, x), W/m/m^2/sr, to inputs of the body; fixed.
    body : nn.Module
        Output of the front to raw numbers (n, 1).
    offset_mpc, scale_mpc : float
        D = offset + scale * body(...). 0 and 1 for targets left in Mpc.
    fractional : bool
        Divide errors by the labels instead of `scale_mpc` (paper, section 5.2).
    precision : {"float32", "bfloat16"}
        Precision of the body's products in training; predictions are in float32.
    """

    offset_mpc: Tensor
    scale_mpc: Tensor

    def __init__(
        self,
        front: nn.Module,
        body: nn.Module,
        offset_mpc: float,
        scale_mpc: float,
        *,
        fractional: bool = False,
        precision: Precision = "float32",
    ):
        super().__init__()
        self.front, self.body, self.fractional = front, body, fractional
        self.precision: Precision = precision
        self.register_buffer("offset_mpc", torch.tensor(offset_mpc))
        self.register_buffer("scale_mpc", torch.tensor(scale_mpc))

    def forward(self, images: Tensor) -> Tensor:
        """Surface brightness (n, band, y, x), W/m/m^2/sr, to distances (n,), Mpc."""
        return self.distance(self.front(images))

    def distance(self, scaled: Tensor) -> Tensor:
        """Output of the front to distances (n,), Mpc."""
        return self._in_mpc(self.body(scaled))

    def _in_mpc(self, raw: Tensor) -> Tensor:
        return self.offset_mpc + self.scale_mpc * raw.squeeze(-1)

    def learn(self, scaled: Tensor, labels_mpc: Tensor) -> tuple[Tensor, Tensor]:
        """Mean square error in units of `scale_mpc` or of the labels; distances (n,), Mpc."""
        D_p = self._in_mpc(at_precision(self.body, scaled, self.precision))
        unit = labels_mpc if self.fractional else self.scale_mpc
        return ((D_p - labels_mpc) / unit).square().mean(), D_p


class DistributionNetwork(nn.Module):
    """Images in physical units to p(D | image) on a grid, mixed over an ensemble of bodies.

    Parameters
    ----------
    front : nn.Module
        Surface brightness (n, band, y, x), W/m/m^2/sr, to inputs of the body; fixed.
    bodies : sequence of nn.Module
        Members of the ensemble: output of the front to raw numbers of the head.
    head : DistanceHead
        Raw numbers to p(D | image).
    average_turns : bool
        Average over the eight rotations and reflections of each image, outside training; needs a
        front that returns images.
    precision : {"float32", "bfloat16"}
        As in `DistanceNetwork`.
    """

    def __init__(
        self,
        front: nn.Module,
        bodies: Sequence[nn.Module],
        head: DistanceHead,
        *,
        average_turns: bool,
        precision: Precision = "float32",
    ):
        super().__init__()
        self.front = front
        self.precision: Precision = precision
        self.bodies = nn.ModuleList(bodies)
        self.head = head
        self.average_turns = average_turns

    def forward(self, images: Tensor) -> Tensor:
        """Surface brightness (n, band, y, x), W/m/m^2/sr, to p(D | image), (n, G)."""
        return self.probability(self.front(images))

    def raw(self, scaled: Tensor) -> Tensor:
        """Raw numbers (member, n, r) of each body, and of each turn of the images if averaged."""
        turns = all_turns(scaled) if self.average_turns and not self.training else [scaled]
        return torch.stack([body(turn) for body in self.bodies for turn in turns])

    def probability(self, scaled: Tensor) -> Tensor:
        """p(D | image), (n, G), of scaled images."""
        return self.mean_probability(self.raw(scaled))

    def mean_probability(self, raw: Tensor) -> Tensor:
        """p(D | image), (n, G), of members' raw numbers (member, n, r)."""
        return self.head.mixed(raw).exp()

    def distance(self, scaled: Tensor) -> Tensor:
        """E[D | image], (n,), Mpc, of scaled images."""
        return self.probability(scaled) @ self.head.grid_mpc

    def learn(self, scaled: Tensor, labels_mpc: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss of a network of one body, nats, and E[D | image], (n,), Mpc."""
        log_p = self.head(at_precision(self.bodies[0], scaled, self.precision))
        return self.head.loss(log_p, labels_mpc).mean(), log_p.exp() @ self.head.grid_mpc


Network = DistanceNetwork | DistributionNetwork


def ensemble(members: Sequence[DistributionNetwork]) -> DistributionNetwork:
    """Join networks into one, whose p(D | image) under a flat prior is their mean."""
    first = members[0]
    bodies = [body for member in members for body in member.bodies]
    return DistributionNetwork(first.front, bodies, first.head, average_turns=first.average_turns)


def build(
    spec: NetworkSection,
    bands: Sequence[str],
    pixels: int,
    *,
    target: tuple[float, float],
    prior: Prior | None,
    seed: int,
    members: int = 1,
) -> Network:
    """Build a network with new weights.

    Parameters
    ----------
    spec : NetworkSection
        Front, body, `head`, `loss`, `average_turns` and `precision`.
    bands : sequence of str
        Bands of the images, in order.
    pixels : int
        Side of the images, pixels.
    target : tuple of float
        Offset and scale of the targets of a point head, Mpc.
    prior : Prior or None
        For the heads gaussian and binned.
    seed : int
        Seed of the initial weights.
    members : int
        Number of bodies, for the heads gaussian and binned.

    Returns
    -------
    DistanceNetwork or DistributionNetwork

    Raises
    ------
    InputError
        When the network does not fit the images.
    ValueError
        When the head gaussian or binned has no prior.
    """
    sees, side = front(spec, bands, pixels), check_crop(spec.crop, pixels)
    with torch.random.fork_rng(devices=[]):  # torch initialises weights from its global generator
        torch.manual_seed(seed)
        if spec.head == "point":
            out = body(spec, len(bands), side, 1)
            fractional = spec.loss == "fractional"
            return DistanceNetwork(
                sees, out, *target, fractional=fractional, precision=spec.precision
            )
        if prior is None:
            raise ValueError(f"head {spec.head} needs a prior")
        head = DistanceHead(spec.head, prior)
        bodies = [body(spec, len(bands), side, head.raw_numbers) for _ in range(members)]
        return DistributionNetwork(
            sees, bodies, head, average_turns=spec.average_turns, precision=spec.precision
        )
