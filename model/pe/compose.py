from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from ..registry import Part
from ..shape import Shape
from .base import Block, Context, PositionEncoding, State, require
from .registry import encodings_for


class Compose(PositionEncoding):
    """Several encodings at once, in order: embeddings and maps chain, biases add, masks intersect.

    parts: names, or mappings with a name and options. At most one part may compute the logits itself, one the values,
    and one may have a sink.
    """

    def __init__(self, shape: Shape, *, parts: list[Part]):
        super().__init__(shape)
        self.parts = nn.ModuleList(parts)  # `for_layers` hands over encodings, built for one layer
        self.relative = all(part.relative for part in parts)
        self.length_dependent = any(part.length_dependent for part in parts)
        self.whole_positions = any(part.whole_positions for part in parts)
        for hook in ("scores", "sink", "values"):
            owners = [type(part).__name__ for part in parts if part.overrides(hook)]
            require(len(owners) <= 1, f"pe.parts: {' and '.join(owners)} both define {hook}; only one part can.")

    @classmethod
    def for_layers(cls, shape: Shape, options: dict[str, Any]) -> list[PositionEncoding]:
        require(bool(options["parts"]), "pe.parts=[]: a composition needs parts.\nTry pe.parts=[rope,window]")
        return composed(shape, *(encodings_for(shape, part) for part in options["parts"]))

    def leaves(self) -> list[PositionEncoding]:
        return [leaf for part in self.parts for leaf in part.leaves()]

    def overrides(self, *hooks: str) -> bool:
        return any(part.overrides(*hooks) for part in self.parts)

    def embed(self, x: Tensor, context: Context) -> Tensor:
        return reduce(lambda y, part: part.embed(y, context), self.parts, x)

    def prepare(self, context: Context) -> list[Any]:
        return [part.prepare(context) for part in self.parts]

    def map_q(self, q: Tensor, context: Context, prepared: list[Any], state: State) -> Tensor:
        for i, part in enumerate(self.parts):
            q = part.map_q(q, context, prepared[i], _own(state, i))
        return q

    def map_k(self, k: Tensor, context: Context, prepared: list[Any], state: State) -> Tensor:
        for i, part in enumerate(self.parts):
            k = part.map_k(k, context, prepared[i], _own(state, i))
        return k

    def state(self, x: Tensor) -> State:
        return {f"{i}.{name}": t for i, part in enumerate(self.parts) for name, t in part.state(x).items()}

    def digest(self, state: State, context: Context) -> list[Any]:
        return [part.digest(_own(state, i), context) for i, part in enumerate(self.parts)]

    def scores(self, q: Tensor, k: Tensor, scale: float, block: Block) -> Tensor:
        for i, part in enumerate(self.parts):
            if part.overrides("scores"):
                return part.scores(q, k, scale, _block(block, i))
        return super().scores(q, k, scale, block)

    def values(self, weights: Tensor, v: Tensor, block: Block) -> Tensor:
        for i, part in enumerate(self.parts):
            if part.overrides("values"):
                return part.values(weights, v, _block(block, i))
        return super().values(weights, v, block)

    def table(self, n: int, device: torch.device | None = None) -> Tensor | None:
        return _fold(torch.add, [part.table(n, device) for part in self.parts])

    def bias(self, block: Block) -> Tensor | None:
        return _fold(torch.add, [part.bias(_block(block, i)) for i, part in enumerate(self.parts)])

    def allowed(self, query_positions: Tensor, key_positions: Tensor) -> Tensor | None:
        return _fold(torch.logical_and, [part.allowed(query_positions, key_positions) for part in self.parts])

    def sink(self) -> Tensor | None:
        return _fold(torch.add, [part.sink() for part in self.parts])

    def reach(self) -> int | None:
        return _fold(min, [part.reach() for part in self.parts])


def composed(shape: Shape, *parts: list[PositionEncoding]) -> list[PositionEncoding]:
    """Compose encodings layer by layer; layers whose parts are all the same objects share one composition."""
    made: dict[tuple[PositionEncoding, ...], PositionEncoding] = {}
    for layer in zip(*parts, strict=True):
        if layer not in made:
            made[layer] = Compose(shape, parts=list(layer))
    return [made[layer] for layer in zip(*parts, strict=True)]


def _fold(combine: Callable, values: list) -> Any:
    present = [value for value in values if value is not None]
    return reduce(combine, present) if present else None


def _own(state: State, part: int) -> State:
    prefix = f"{part}."
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _block(block: Block, part: int) -> Block:
    return replace(block, prepared=block.prepared[part], state=block.state[part])
