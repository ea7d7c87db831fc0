"""Encodings that divide the keys of a query into regions and measure distance differently in each.

A region is a pair of maps of positions: its logits are <R_f(i) q, R_g(j) k> of a rotary encoding. Queries and keys
are rotated once per forward pass for every map and concatenated; a block of logits selects the region of each pair.
"""

from typing import Any

import torch
from torch import Tensor

from ...shape import Shape
from ..base import Block, Context, PositionEncoding, TokenState, require, scaled_scores
from ..registry import encodings_for
from ..rope import Rope
from .rotation import Rotation, angles, rotate


class Regions(PositionEncoding):
    """Base of region schemes: a subclass defines `query_maps`, `key_maps` and `region`.

    rope: the rotary encoding, as a name or as a name and options; the constructor receives it built.
    """

    def __init__(self, shape: Shape, *, rope: Any):
        super().__init__(shape)
        require(
            isinstance(rope, Rope) and rope.is_pure_rotation,
            f"pe.rope={type(rope).__name__.lower()}: a region scheme needs an encoding that does nothing but rotate.\n"
            f"Try pe.rope=rope",
        )
        self.rope: Rope = rope
        self.length_dependent = rope.length_dependent

    @classmethod
    def for_layers(cls, shape: Shape, options: dict[str, Any]) -> list[PositionEncoding]:
        return super().for_layers(shape, options | {"rope": encodings_for(shape, options["rope"])[0]})

    @classmethod
    def options_for_length(cls, shape: Shape, options: dict[str, Any], length: int) -> dict[str, Any]:
        """Options for a trained model that is to serve `length` tokens: null options that depend on it are filled."""
        return options

    def query_maps(self, positions: Tensor) -> list[Tensor]:
        """Positions of the queries at `positions` (B|1, T) in each region."""
        raise NotImplementedError

    def key_maps(self, positions: Tensor) -> list[Tensor]:
        """Positions of the keys in each region; a single map if they are the same in all."""
        raise NotImplementedError

    def prepare(self, context: Context) -> tuple[list[Rotation], list[Rotation]]:
        scaled, device = self.rope.scaled(context), context.positions.device
        queries = [angles(p, *scaled, device) for p in self.query_maps(context.query_positions)]
        return queries, [angles(p, *scaled, device) for p in self.key_maps(context.positions)]

    def map_q(self, q: Tensor, context: Context, prepared: Any, state: TokenState) -> Tensor:
        return torch.cat([rotate(q, rotation, self.rope.layout) for rotation in prepared[0]], -1)

    def map_k(self, k: Tensor, context: Context, prepared: Any, state: TokenState) -> Tensor:
        return torch.cat([rotate(k, rotation, self.rope.layout) for rotation in prepared[1]], -1)

    def regions(self, q: Tensor, k: Tensor) -> list[tuple[Tensor, Tensor]]:
        queries, keys = q.split(self.shape.head_dim, -1), k.split(self.shape.head_dim, -1)
        return list(zip(queries, keys if len(keys) > 1 else keys * len(queries), strict=True))

    def scores(self, q: Tensor, k: Tensor, scale: float, block: Block) -> Tensor:
        queries, keys = zip(*self.regions(q, k), strict=True)
        region = self.region(block.query_positions[:, :, None], block.key_positions[:, None, :]).to(torch.int8)[:, None]
        pieces = []
        for start, stop, numbers in _segments(region, len(queries)):
            piece = None
            for number in numbers:
                dots = scaled_scores(queries[number], keys[number][:, :, start:stop], scale)
                piece = dots if piece is None else torch.where(region[..., start:stop] == number, dots, piece)
            pieces.append(q.new_zeros(*q.shape[:3], stop - start) if piece is None else piece)
        return torch.cat(pieces, -1) if len(pieces) > 1 else pieces[0]


def _segments(region: Tensor, count: int) -> list[tuple[int, int, range]]:
    """Ranges of columns of a block and the regions that occur in each: most need one product instead of `count`."""
    if torch.compiler.is_compiling():  # a graph cannot branch on the values of a tensor
        return [(0, region.shape[-1], range(count))]
    low, high = region.flatten(0, 2).aminmax(dim=0)
    bounds, counts = torch.unique_consecutive(torch.stack([low, high]), dim=1, return_counts=True)
    segments, start = [], 0
    for (least, most), count in zip(bounds.T.tolist(), counts.tolist(), strict=True):
        segments.append((start, start + count, range(max(0, least), most + 1)))
        start += count
    return segments
