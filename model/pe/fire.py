import math

import torch
from torch import Tensor, nn

from ..shape import Shape
from .base import Block, PositionEncoding, require

EPSILON = 1e-6  # as in the released code
PAIRS = 2**17  # pairs of a query and a key per look-up: their lines stay in the processor's cache


class Fire(PositionEncoding):
    """FIRE (2310.04418): a learned function of the distance divided by the query's position, shared by the layers.

        f(psi(i - j) / psi(max(i, T)))_h,     psi(x) = ln(|c x| + 1),     f: 1 -> hidden, ReLU -> H

    The argument stays in [0, 1] at any length ("progressive interpolation"). The price is that the bias is not a
    function of i - j: i is the position of the query in its document. c starts at 0.1 and T = |m * threshold| with m
    starting at 1. Unlike the released code, f has no bias in its last layer: a number that is added to all keys of a
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
            pieces = self.pieces()
            chunks = ratio.split(max(1, PAIRS // ratio.shape[2]), 1)
            return torch.cat([self.network(rows, *pieces) for rows in chunks], 2)

    def network(self, x: Tensor, breaks: Tensor, lines: Tensor) -> Tensor:
        """f at x (B|1, tq, tk): (B|1, H, tq, tk).

        f is piecewise linear with breakpoints at -b / w of its ReLUs. Looking up the line at x is exact, and faster
        than computing all hidden units for every pair of tokens.
        """
        piece = torch.bucketize(x.detach(), breaks).flatten()
        slope, start = lines.gather(1, piece.expand(len(lines), -1)).unflatten(1, x.shape).chunk(2)
        return torch.addcmul(start, slope, x).movedim(0, 1)

    def pieces(self) -> tuple[Tensor, Tensor]:
        """Breakpoints of f, sorted (hidden,), and the slope and intercept of each piece, (2 H, hidden + 1)."""
        w, b, out = self.hidden.weight.float()[:, 0], self.hidden.bias.float(), self.out.weight.float()
        breaks, order = (-b / w).detach().nan_to_num(math.inf).sort()  # w = 0: at infinity; w = b = 0: nan, likewise
        w, b, out = w[order], b[order], out[:, order]
        piece = torch.arange(len(breaks) + 1, device=w.device)
        passed = (
            torch.arange(len(breaks), device=w.device)[:, None] < piece
        )  # (hidden, pieces): breakpoints left of the piece
        active = passed == (w >= 0)[:, None]  # a unit with w < 0 is active left of its breakpoint
        return breaks, torch.cat([(out * x) @ active.float() for x in (w, b)])
