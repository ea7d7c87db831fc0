from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from ..registry import Part
from ..shape import Shape
from .base import Block, Context, PositionEncoding, TokenState
from .registry import encodings_for


class Level(PositionEncoding):
    """An encoding that reads one of two position ids per token. BiPE (2401.16421) consists of two of them.

        id 0: position within the segment        id 1: index of the segment

    BiPE encodes the first by a code added to the embedding and the second by attention. The position plan defines the
    ids; with a plan that has one id, the first is the position and the second is 0.

    which: the id.  part: the encoding that takes it for the position.
    """

    def __init__(self, shape: Shape, *, which: Literal[0, 1], part: Part):
        super().__init__(shape)
        assert isinstance(part, PositionEncoding)  # built by `for_layers`
        self.which, self.position_axes = which, (which,)
        self.part: PositionEncoding = part
        self.relative, self.integer_positions = part.relative, part.integer_positions
        self.max_positions, self.length_dependent = part.max_positions, part.length_dependent
        self.per_layer = part.per_layer

    @classmethod
    def for_layers(cls, shape: Shape, options: dict[str, Any]) -> list[PositionEncoding]:
        parts = encodings_for(shape, options["part"])
        levels: dict[PositionEncoding, PositionEncoding] = {}
        for part in dict.fromkeys(parts):
            levels[part] = cls(shape, **{**options, "part": part})
        return [levels[part] for part in parts]

    def overrides(self, *hooks: str) -> bool:
        # `bias` expands the part's table over distance: a kernel would read it at distances of both ids together.
        own = {"bias": ("table", "bias"), "table": (), "window_size": (), "regions": ()}
        return any(self.part.overrides(*own.get(hook, (hook,))) for hook in hooks)

    def embed(self, x: Tensor, context: Context) -> Tensor:
        return self.part.embed(x, context.select_axis(self.which))

    def prepare(self, context: Context) -> tuple[Any, Tensor | None]:
        own = context.select_axis(self.which)
        table = self.part.table(own.span, own.positions.device) if self.part.overrides("table") else None
        return self.part.prepare(own), table

    def map_q(self, q: Tensor, context: Context, prepared: Any, state: TokenState) -> Tensor:
        return self.part.map_q(q, context.select_axis(self.which), prepared[0], state)

    def map_k(self, k: Tensor, context: Context, prepared: Any, state: TokenState) -> Tensor:
        return self.part.map_k(k, context.select_axis(self.which), prepared[0], state)

    def token_state(self, x: Tensor) -> TokenState:
        return self.part.token_state(x)

    def content_features(self, state: TokenState, context: Context) -> Any:
        return self.part.content_features(state, context.select_axis(self.which))

    def scores(self, q: Tensor, k: Tensor, scale: float, block: Block) -> Tensor:
        return self.part.scores(q, k, scale, self._own(block))

    def values(self, weights: Tensor, v: Tensor, block: Block) -> Tensor:
        return self.part.values(weights, v, self._own(block))

    def bias(self, block: Block) -> Tensor | None:
        own, table = self._own(block), block.prepared[1]
        bias = self.part.bias(own)
        if table is None:
            return bias
        return own.expand_by_distance(table) if bias is None else own.expand_by_distance(table) + bias

    def allowed(self, query_positions: Tensor, key_positions: Tensor) -> Tensor | None:
        if query_positions.dim() == 4:  # (B, tq, 1, 2)
            return self.part.allowed(query_positions[..., self.which], key_positions[..., self.which])
        if self.which == 1:
            query_positions, key_positions = torch.zeros_like(query_positions), torch.zeros_like(key_positions)
        return self.part.allowed(query_positions, key_positions)

    def sink(self) -> Tensor | None:
        return self.part.sink()

    def _own(self, block: Block) -> Block:
        return replace(block, context=block.context.select_axis(self.which), prepared=block.prepared[0])
