"""How a layer's queries see its keys: what an encoding computes once a forward pass, and what it adds to the logits."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..pe.base import Block, Context, PositionEncoding
from . import flex
from .chunked import CHUNK, NEVER

AT_ONCE = 2**26  # bytes of what is added to logits that are made for all layers at once, not block by block in each


@dataclass(frozen=True)
class Prepared:
    """What an encoding computes once a forward pass, for all the layers it acts in."""

    value: Any = None  # encoding.prepare(context)
    table: Tensor | None = None  # encoding.table(n), float32 (H|1, n)
    added: Tensor | None = None  # View.added of all queries and keys, of an encoding whose layers all add the same
    memo: dict = field(default_factory=dict)  # what a kernel computes for all of these layers

    @staticmethod
    def of(encoding: PositionEncoding, context: Context) -> "Prepared":
        positions = context.positions
        with torch.autocast(positions.device.type, enabled=False):  # angles, distances and biases are float32
            table = encoding.table(context.span, positions.device) if encoding.overrides("table") else None
            prepared = Prepared(encoding.prepare(context), table)
            view = View(encoding, context, prepared)
            if not view.adds_the_same or context.queries > view.queries_at_once:
                return prepared
            view = View(encoding, context, prepared, encoding.content_features({}, context))
            return replace(prepared, added=view.added(view.whole))


@dataclass(frozen=True)
class View:
    """An encoding in one layer; without `content_features` and `scale`, in all of them."""

    encoding: PositionEncoding
    context: Context
    prepared: Prepared = field(default_factory=Prepared)
    digest: Any = None  # encoding.content_features(state, context)
    scale: float = 1.0

    def block(self, rows: slice, columns: slice) -> Block:
        return Block(self.context, self.prepared.value, self.digest, rows, columns)

    @property
    def whole(self) -> Block:
        """All queries against all keys."""
        keys = self.context.positions.shape[1]
        return self.block(slice(keys - self.context.queries, keys), slice(0, keys))

    @property
    def plain(self) -> bool:
        """Causal softmax of dot products: nothing is added, hidden or computed otherwise."""
        return self.over_distance and not self.encoding.overrides("table", "sink")

    @property
    def over_distance(self) -> bool:
        """All that is added to the logits is a function of the difference of indices."""
        differences = self.context.contiguous or not self.encoding.overrides("table")
        return (
            self.adds
            and differences
            and self.context.documents is None
            and not self.encoding.overrides("bias", "allowed")
        )

    @property
    def adds(self) -> bool:
        """Logits are dot products and what `added` says, and what attention returns is their softmax times values."""
        return not self.encoding.overrides("scores", "values")

    @property
    def adds_the_same(self) -> bool:
        """In every layer, because content has no part in it; for a kernel that wants all of it."""
        elsewhere = self.over_distance or (self.context.positions.is_cuda and flex.legal(self))
        return self.adds and not elsewhere and not self.encoding.overrides("token_state", "content_features")

    @property
    def queries_at_once(self) -> int:
        """For how many queries what is added to the logits of all keys takes AT_ONCE bytes at most; a block or more."""
        rows, keys, *_ = self.context.positions.shape
        if self.context.documents is not None:
            rows = len(self.context.documents)
        heads = self.encoding.shape.heads if self.encoding.overrides("table", "bias") else 1
        return max(CHUNK, AT_ONCE // (4 * rows * heads * keys))

    def added(self, block: Block) -> Tensor:
        """Float32, broadcast over (B, H, tq, tk): biases where a key may be seen, -inf elsewhere. No tricks."""
        visible = block.visible()[None, None]
        if self.context.documents is not None:
            documents = self.context.documents
            visible = visible & (documents[:, None, block.rows, None] == documents[:, None, None, block.columns])
        allowed = self.encoding.allowed(block.query_positions[:, :, None], block.key_positions[:, None, :])
        if allowed is not None:
            visible = visible & allowed[:, None]
        table, bias = self.prepared.table, self.encoding.bias(block)
        total = (
            bias
            if table is None
            else block.expand_by_distance(table)
            if bias is None
            else block.expand_by_distance(table) + bias
        )
        return torch.where(visible, 0.0 if total is None else total, NEVER)
