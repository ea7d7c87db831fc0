import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..shape import Shape
from .base import Block, PositionEncoding, require

EPSILON = 1e-6  # as in the released code
PAIRS = 2**15  # of a query and a key that the network sees at once: its `hidden` float32 numbers stay in the cache


class Fire(PositionEncoding):
    """FIRE (2310.04418): a learned function of the distance in units of the query's own position, shared by the layers.

        f(psi(i - j) / psi(max(i, T)))_h,     psi(x) = ln(|c x| + 1),     f: 1 -> hidden, ReLU -> H

    The argument stays in [0, 1] at any length ("progressive interpolation"), at the price that the bias is not a
    function of i - j: i is the position of the query in its document. c starts at 0.1 and T = |m * threshold| with m
    starting at 1. f has no bias in its last layer, unlike the released code: a number that is added to all keys of a
    query changes nothing.

    threshold: null is half of the training length, as released.
    """

    def __init__(self, shape: Shape, *, hidden: int, threshold: int | None):
        super().__init__(shape)
        require(hidden >= 1, f"pe.hidden={hidden}: expected 1 or more.\nTry pe.hidden=32")
        self.threshold = max(1, shape.train_length // 2) if threshold is None else threshold
        require(self.threshold >= 1, f"pe.threshold={threshold}: expected 1 or more.\nTry pe.threshold=null")
        self.c = nn.Parameter(torch.empty(1))  # not (): FSDP cannot shard that
        self.m = nn.Parameter(torch.empty(1))
        self.hidden = nn.Linear(1, hidden)
        self.out = nn.Linear(hidden, shape.heads, bias=False)

    def reset(self, generator: torch.Generator) -> None:
        nn.init.constant_(self.c, 0.1)
        nn.init.constant_(self.m, 1.0)
        for linear in (self.hidden, self.out):
            bound = linear.in_features**-0.5
            for parameter in linear.parameters():
                nn.init.uniform_(parameter, -bound, bound, generator=generator)

    def psi(self, x: Tensor) -> Tensor:
        return torch.log1p((self.c.float() * x).abs())

    def bias(self, block: Block) -> Tensor:
        with torch.autocast(self.c.device.type, enabled=False):
            furthest = torch.maximum(block.query_positions.float(), (self.m.float() * self.threshold).abs())
            distance = block.distance().clamp(min=0).float()
            ratio = self.psi(distance) / (self.psi(furthest)[..., None] + EPSILON)  # (B|1, tq, tk)
            return torch.cat([self.network(rows) for rows in ratio.split(max(1, PAIRS // ratio.shape[2]), 1)], 2)

    def network(self, ratio: Tensor) -> Tensor:
        """f at (B|1, rows, tk): (B|1, H, rows, tk)."""
        hidden = F.relu(F.linear(ratio[..., None], self.hidden.weight.float(), self.hidden.bias.float()))
        return F.linear(hidden, self.out.weight.float()).movedim(-1, 1)
