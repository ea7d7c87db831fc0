from collections.abc import Callable, Container, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from ..registry import Part
from ..shape import Shape
from .base import Block, Context, PositionEncoding, TokenState, require
from .registry import encodings_for


class Composition(PositionEncoding):
    """Several encodings in one layer. `Compose` describes the options.

    elsewhere: members whose parameters belong to another composition.
    """

    def __init__(self, shape: Shape, members: Sequence[PositionEncoding], elsewhere: Container[PositionEncoding] = ()):
        super().__init__(shape)
        self.members = tuple(members)
        self.parts = nn.ModuleDict({str(i): part for i, part in enumerate(members) if part not in elsewhere})
        self.relative = all(part.relative for part in members)
        self.cacheable_keys = all(part.cacheable_keys or not part.overrides("map_k") for part in members)
        self.length_dependent = any(part.length_dependent for part in members)
        self.integer_positions = any(part.integer_positions for part in members)
        for hook in ("scores", "sink", "values"):
            owners = [type(part).__name__ for part in members if part.overrides(hook)]
            require(len(owners) <= 1, f"pe.parts: {' and '.join(owners)} both define {hook}; only one part can.")

    def components(self) -> list[PositionEncoding]:
        return [component for part in self.members for component in part.components()]

    def overrides(self, *hooks: str) -> bool:
        return any(part.overrides(*hooks) for part in self.members)

    def embed(self, x: Tensor, context: Context) -> Tensor:
        return reduce(lambda y, part: part.embed(y, context), self.members, x)

    def prepare(self, context: Context) -> list[Any]:
        return [part.prepare(context) for part in self.members]

    def map_q(self, q: Tensor, context: Context, prepared: list[Any], state: TokenState) -> Tensor:
        for i, part in enumerate(self.members):
            q = part.map_q(q, context, prepared[i], _part_state(state, i))
        return q

    def map_k(self, k: Tensor, context: Context, prepared: list[Any], state: TokenState) -> Tensor:
        for i, part in enumerate(self.members):
            k = part.map_k(k, context, prepared[i], _part_state(state, i))
        return k

    def token_state(self, x: Tensor) -> TokenState:
        return {f"{i}.{name}": t for i, part in enumerate(self.members) for name, t in part.token_state(x).items()}

    def content_features(self, state: TokenState, context: Context) -> list[Any]:
        return [part.content_features(_part_state(state, i), context) for i, part in enumerate(self.members)]

    def scores(self, q: Tensor, k: Tensor, scale: float, block: Block) -> Tensor:
        for i, part in enumerate(self.members):
            if part.overrides("scores"):
                return part.scores(q, k, scale, _part_block(block, i))
        return super().scores(q, k, scale, block)

    def regions(self, q: Tensor, k: Tensor) -> list[tuple[Tensor, Tensor]] | None:
        return _fold(lambda first, _: first, [part.regions(q, k) for part in self.members])

    def region(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        (part,) = (part for part in self.members if part.overrides("regions"))
        return part.region(query_positions, key_positions)

    def values(self, weights: Tensor, v: Tensor, block: Block) -> Tensor:
        for i, part in enumerate(self.members):
            if part.overrides("values"):
                return part.values(weights, v, _part_block(block, i))
        return super().values(weights, v, block)

    def table(self, n: int, device: torch.device | None = None) -> Tensor | None:
        return _fold(torch.add, [part.table(n, device) for part in self.members])

    def bias(self, block: Block) -> Tensor | None:
        return _fold(torch.add, [part.bias(_part_block(block, i)) for i, part in enumerate(self.members)])

    def allowed(self, query_positions: Tensor, key_positions: Tensor) -> Tensor | None:
        return _fold(torch.logical_and, [part.allowed(query_positions, key_positions) for part in self.members])

    def sink(self) -> Tensor | None:
        return _fold(torch.add, [part.sink() for part in self.members])

    def window_size(self) -> int | None:
        return _fold(min, [part.window_size() for part in self.members])


class Compose(Composition):
    """Several encodings in one layer, in order: embeddings and maps are chained, biases added, masks intersected.

    parts: names, or mappings with a name and options. At most one part may compute the logits itself, at most one the
    values, and at most one may have a sink.
    """

    def __init__(self, shape: Shape, *, parts: list[Part]):
        raise TypeError("Compose is never built: `for_layers` returns compositions of its parts")

    @classmethod
    def for_layers(cls, shape: Shape, options: dict[str, Any]) -> list[PositionEncoding]:
        require(bool(options["parts"]), "pe.parts=[]: a composition needs parts.\nTry pe.parts=[rope,window]")
        return composed(shape, *(encodings_for(shape, part) for part in options["parts"]))


def composed(shape: Shape, *parts: list[PositionEncoding]) -> list[PositionEncoding]:
    """Compose encodings layer by layer; layers with the same parts share one composition.

    A part of several compositions is registered by the first one, so each parameter has one name in the model.
    """
    compositions: dict[tuple[PositionEncoding, ...], PositionEncoding] = {}
    registered: set[PositionEncoding] = set()
    for layer in zip(*parts, strict=True):
        if layer not in compositions:
            compositions[layer] = Composition(shape, layer, elsewhere=registered)
            registered.update(layer)
    return [compositions[layer] for layer in zip(*parts, strict=True)]


def _fold(combine: Callable, values: list) -> Any:
    present = [value for value in values if value is not None]
    return reduce(combine, present) if present else None


def _part_state(state: TokenState, part: int) -> TokenState:
    prefix = f"{part}."
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _part_block(block: Block, part: int) -> Block:
    return replace(block, prepared=block.prepared[part], content=block.content[part])
