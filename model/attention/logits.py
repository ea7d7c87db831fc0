"""The attention logits as the kernels need them: what is added, what is masked, and what the layers share.

Shapes: B batch, H heads, T keys, Tq queries (the last of the T tokens), (tq, tk) a block of queries and keys.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..pe.base import Block, Context, PositionEncoding
from .chunked import CHUNK, NEVER

MAX_MASK_BYTES = 2**26  # largest additive mask that is computed once for all layers


@dataclass(frozen=True)
class SharedAcrossLayers:
    """Results of an encoding that are computed once per forward pass and used in all its layers."""

    prepared: Any = None  # encoding.prepare(context)
    table: Tensor | None = None  # encoding.table(n), float32 (H|1, n)
    additive_mask: Tensor | None = None  # of all queries and keys, if it is the same in every layer
    block_masks: dict = field(default_factory=dict)  # FlexAttention's block mask of each region

    @staticmethod
    def of(encoding: PositionEncoding, context: Context) -> "SharedAcrossLayers":
        positions = context.positions
        with torch.autocast(positions.device.type, enabled=False):  # angles, distances and biases are float32
            table = encoding.table(context.span, positions.device) if encoding.overrides("table") else None
            shared = SharedAcrossLayers(encoding.prepare(context), table)
            spec = LogitsSpec(encoding, context, shared)
            if not spec.layer_independent or context.queries > spec.max_queries:
                return shared
            spec = LogitsSpec(encoding, context, shared, encoding.content_features({}, context))
            return replace(shared, additive_mask=spec.additive_mask(spec.all_pairs))


@dataclass(frozen=True)
class LogitsSpec:
    """The logits of an encoding in one layer; without `content` and `scale`, in all of its layers."""

    encoding: PositionEncoding
    context: Context
    shared: SharedAcrossLayers = field(default_factory=SharedAcrossLayers)
    content: Any = None  # encoding.content_features(state, context)
    scale: float = 1.0

    def block(self, rows: slice, columns: slice) -> Block:
        return Block(self.context, self.shared.prepared, self.content, rows, columns)

    @property
    def all_pairs(self) -> Block:
        """The block of all queries and all keys."""
        keys = self.context.positions.shape[1]
        return self.block(slice(keys - self.context.queries, keys), slice(0, keys))

    @property
    def is_causal_only(self) -> bool:
        """Plain causal attention: no bias, no further mask, no sink."""
        return self.is_distance_bias and not self.encoding.overrides("table", "sink")

    @property
    def is_distance_bias(self) -> bool:
        """Bias and mask are functions of the difference of two token indices."""
        by_index = self.context.contiguous or not self.encoding.overrides("table")
        other = self.context.documents is not None or self.encoding.overrides("bias", "allowed")
        return self.is_additive and by_index and not other

    @property
    def is_additive(self) -> bool:
        """Logits are dot products plus `additive_mask`, and the output is their softmax times the values."""
        return not self.encoding.overrides("scores", "values")

    @property
    def layer_independent(self) -> bool:
        """One additive mask serves all layers: it is needed in full, and no content enters it."""
        in_full = not self.is_distance_bias and not (self.context.positions.is_cuda and self.supports_flex)
        return self.is_additive and in_full and not self.encoding.overrides("token_state", "content_features")

    @property
    def supports_flex(self) -> bool:
        """The encoding consists of hooks that FlexAttention can express: a table, masks, regions and a sink."""
        dots = not self.encoding.overrides("scores") or self.encoding.overrides("regions")
        return dots and not self.encoding.overrides("bias", "values") and self.context.positions.dim() == 2

    @property
    def max_queries(self) -> int:
        """Number of queries whose additive mask takes MAX_MASK_BYTES; at least CHUNK."""
        rows, keys, *_ = self.context.positions.shape
        if self.context.documents is not None:
            rows = len(self.context.documents)
        heads = self.encoding.shape.heads if self.encoding.overrides("table", "bias") else 1
        return max(CHUNK, MAX_MASK_BYTES // (4 * rows * heads * keys))

    def additive_mask(self, block: Block) -> Tensor:
        """Float32, broadcast over (B, H, tq, tk): the bias of visible keys, -inf for hidden ones.

        The reference that the faster forms of a bias are tested against.
        """
        visible = block.visible()[None, None]
        if self.context.documents is not None:
            documents = self.context.documents
            visible = visible & (documents[:, None, block.rows, None] == documents[:, None, None, block.columns])
        allowed = self.encoding.allowed(block.query_positions[:, :, None], block.key_positions[:, None, :])
        if allowed is not None:
            visible = visible & allowed[:, None]
        bias = self.encoding.bias(block)
        if self.shared.table is not None:
            by_distance = block.expand_by_distance(self.shared.table)
            bias = by_distance if bias is None else by_distance + bias
        return torch.where(visible, 0.0 if bias is None else bias, NEVER)
