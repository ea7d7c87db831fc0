"""The hooks of a position encoding.

Every scheme is an instance of

    x0   = embed(tokens, pos)
    s_ij = <map_q(q_i, pos_i), map_k(k_j, pos_j)> / sqrt(d) + bias_h(pos_i, pos_j)
    p    = softmax over { j <= i : allowed(pos_i, pos_j) } and a sink

and overrides one hook, rarely two. Each hook is the identity here, so this class *is* NoPE.

A fixed encoding has no state: angles, slopes and distances are computed in float32 from Python numbers inside the
hook. There are no buffers and no caches, so nothing can be rounded by `.bfloat16()`, lost by `to_empty()` or read under
a wrong key.

Shapes: B batch, H heads, T tokens, d head dimension, D width, (tq, tk) a block of queries and keys.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..shape import Shape

TokenState = dict[str, Tensor]


@dataclass(frozen=True)
class Context:
    """Positions and lengths of a forward pass, as hooks may use them.

    Never a tensor's length in place of `train_length` or `total_length`.
    """

    positions: Tensor  # (B|1, T) of all keys, int64, or float32 in fractional plans; (B|1, T, 2) with two ids
    queries: int  # number of queries: the last of these tokens
    train_length: int
    total_length: int  # tokens so far, with those in the cache; only for `length_dependent` schemes
    contiguous: bool  # positions are start, start + 1, ...: a distance is a difference of indices
    documents: Tensor | None = None  # (B, T) index of the document of each token, in packed rows

    @property
    def query_positions(self) -> Tensor:
        return self.positions[:, self.positions.shape[1] - self.queries :]

    @property
    def span(self) -> int:
        """Number of possible distances: they are 0 ... span - 1."""
        if self.contiguous:
            return self.positions.shape[1]
        return int(self.positions.max() - self.positions.min()) + 1

    def select_axis(self, axis: int) -> "Context":
        """The context of one of two position ids per token, 0 or 1. With a single id per token the second is 0."""
        if self.positions.dim() == 3:
            return replace(self, positions=self.positions[..., axis], contiguous=False)
        return replace(self, positions=torch.zeros_like(self.positions), contiguous=False) if axis else self


@dataclass(frozen=True)
class Block:
    """Some queries and some keys, both as ranges of token indices in the whole sequence."""

    context: Context
    prepared: Any  # what `prepare` returned
    content: Any  # what `content_features` returned
    rows: slice  # the queries
    columns: slice  # the keys

    @property
    def query_positions(self) -> Tensor:  # (B|1, tq)
        return self.context.positions[:, self.rows]

    @property
    def key_positions(self) -> Tensor:  # (B|1, tk)
        return self.context.positions[:, self.columns]

    def distance(self) -> Tensor:
        """Query position minus key position, (B|1, tq, tk). Negative in the future, which the kernels mask."""
        return self.query_positions[:, :, None] - self.key_positions[:, None, :]

    def expand_by_distance(self, table: Tensor) -> Tensor:
        """Expand a table over distance (H|1, n) to (B|1, H|1, tq, tk). Far keys share the last entry."""
        return table[:, self.distance_index(table.shape[1])].transpose(0, 1)

    def gather_by_distance(self, rows: Tensor) -> Tensor:
        """Gather the entry of every key from (B, H, tq, n), one entry per query and distance: (B, H, tq, tk)."""
        index = self.distance_index(rows.shape[-1])[:, None]
        return rows.gather(-1, index.expand(*rows.shape[:2], -1, -1))

    def distance_index(self, n: int) -> Tensor:
        """Distances as indices into a table of n entries, int64 (B|1, tq, tk). Requires `integer_positions`."""
        return self.distance().clamp(min=0, max=n - 1)

    def visible(self) -> Tensor:
        """Boolean (tq, tk): the keys that are not in the future of a query, by token index."""
        device = self.context.positions.device
        i = torch.arange(self.rows.start, self.rows.stop, device=device)[:, None]
        return torch.arange(self.columns.start, self.columns.stop, device=device) <= i


class PositionEncoding(nn.Module):
    """NoPE, and the base of every other scheme.

    Subclasses are built as `Scheme(shape, *, option, ...)`. Parameters are created empty and initialised by `reset`.
    """

    # Declarations. The shared tests verify them for every scheme.
    relative = False  # attention depends only on differences of positions
    max_positions: int | None = None  # hard limit on the position (a learned table)
    length_dependent = False  # the outputs of a prefix change with `total_length`
    cacheable_keys = False  # a mapped key depends on its own token and position alone, so mapped keys can be cached
    per_layer = False  # each layer has its own parameters
    integer_positions = False  # positions or distances are indices, so fractional positions are refused
    # Of two position ids per token, those that this encoding reads. Empty: only plans with one id are supported.
    position_axes: tuple[int, ...] = ()

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape

    def reset(self, generator: torch.Generator) -> None:
        """Set the parameters to their initial values."""

    def embed(self, x: Tensor, context: Context) -> Tensor:
        """Input embedding: x (B, T, D) of the query tokens -> (B, T, D)."""
        return x

    def prepare(self, context: Context) -> Any:
        """Compute what all layers of a forward pass share: cos and sin, a bias table."""

    def map_q(self, q: Tensor, context: Context, prepared: Any, state: TokenState) -> Tensor:
        """Queries (B, H, Tq, d) -> (B, H, Tq, d'), d' >= d. `state` holds every token, not only the queries."""
        return q

    def map_k(self, k: Tensor, context: Context, prepared: Any, state: TokenState) -> Tensor:
        """Keys (B, H_kv, T, d) -> (B, H_kv, T, d').

        The KV cache holds raw keys, so all of them are mapped each time; under `cacheable_keys` only the new ones.
        """
        return k

    def token_state(self, x: Tensor) -> TokenState:
        """Per-token state of a content-dependent scheme, from the layer's normalised input x (B, T, D).

        Tensors (B, T, ...), cached beside keys and values exactly as returned.
        """
        return {}

    def content_features(self, state: TokenState, context: Context) -> Any:
        """Turn the state of all tokens into the input of `scores` and `bias` (a cumulative sum, for example)."""
        return state

    def scores(self, q: Tensor, k: Tensor, scale: float, block: Block) -> Tensor:
        """Attention logits of a block: q (B, H, tq, d), k (B, H, tk, d) -> (B, H, tq, tk). The scaled dot product."""
        return scaled_scores(q, k, scale)

    def regions(self, q: Tensor, k: Tensor) -> list[tuple[Tensor, Tensor]] | None:
        """Queries and keys (B, H, T, d) of each region, if `scores` selects one of several dot products by `region`."""
        return None

    def region(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        """Index of the region of each pair, broadcast over (..., tq, tk); -1 for pairs that `allowed` masks."""
        raise NotImplementedError

    def values(self, weights: Tensor, v: Tensor, block: Block) -> Tensor:
        """Output of attention for a block: weights (B, H, tq, tk), v (B, H, tk, d_v) -> (B, H, tq, d_v)."""
        return weights @ v

    def table(self, n: int, device: torch.device | None = None) -> Tensor | None:
        """Float32 (H|1, n) added to the logits at distances 0 ... n - 1, if the bias is a function of distance."""
        return None

    def bias(self, block: Block) -> Tensor | None:
        """Float32 (B|1, H|1, tq, tk) added to the logits of a block, if the bias is not a function of distance."""
        return None

    def allowed(self, query_positions: Tensor, key_positions: Tensor) -> Tensor | None:
        """Boolean, broadcast over (..., tq, tk): keys that a query may see, apart from causality and documents."""
        return None

    def sink(self) -> Tensor | None:
        """Logits (H,) of an additional key without a value, which every query sees."""
        return None

    def window_size(self) -> int | None:
        """Largest number of most recent keys that a query can see, itself included, if there is such a bound."""
        return None

    def by_token_index(self) -> "PositionEncoding":
        """This encoding with keys counted by token index, for position plans with gaps; itself if it counts no keys."""
        return self

    @property
    def primary_axis(self) -> int:
        """The one of two ids per token that `max_positions` limits."""
        return self.position_axes[0] if self.position_axes else 0

    def components(self) -> "list[PositionEncoding]":
        """The encodings that this one consists of: itself, or the parts of a composition."""
        return [self]

    @classmethod
    def for_layers(cls, shape: Shape, options: dict[str, Any]) -> "list[PositionEncoding]":
        """One encoding per layer: a shared one, or a copy for each layer if `per_layer`. Schedules override this."""
        if cls.per_layer:
            return [cls(shape, **options) for _ in range(shape.layers)]
        return [cls(shape, **options)] * shape.layers

    def overrides(self, *hooks: str) -> bool:
        """Return whether this scheme overrides any of these hooks. Kernels are chosen by this."""
        return any(getattr(type(self), hook) is not getattr(PositionEncoding, hook) for hook in hooks)


class Encodings(nn.ModuleList):
    """The encodings of a model: a ModuleList with a typed element."""

    if TYPE_CHECKING:

        def __getitem__(self, index: int) -> PositionEncoding: ...
        def __iter__(self) -> Iterator[PositionEncoding]: ...


class DistanceBias(PositionEncoding):
    """A bias that depends on the distance i - j alone: the subclass defines `table` and nothing else.

    That one definition serves every kernel: the chunked kernel reads it through a strided view, FlexAttention gathers
    from it, the dense reference expands it and the gallery draws it.
    """

    relative = True
    integer_positions = True

    def table(self, n: int, device: torch.device | None = None) -> Tensor:
        raise NotImplementedError


def scaled_scores(q: Tensor, k: Tensor, scale: float, out: Tensor | None = None) -> Tensor:
    """q k^T * scale with the scaling inside the matrix product: (B, H, tq, d), (B, H, tk, d) -> (B, H, tq, tk).

    out: a contiguous tensor for the result.
    """
    q3, k3 = q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2)
    unused = q3.new_empty(())  # ignored, because beta is 0
    logits = torch.baddbmm(unused, q3, k3, beta=0, alpha=scale, out=None if out is None else out.flatten(0, 1))
    return logits.unflatten(0, q.shape[:2])


def distances(n: int, device: torch.device | None) -> Tensor:
    """0, 1, ..., n - 1 in float32 (n,), exact up to 2^24, also under autocast."""
    return torch.arange(n, device=device, dtype=torch.float32)


def require(condition: bool, message: str) -> None:
    """Raise ModelError(message) unless `condition` holds. For options that a constructor cannot work with."""
    if not condition:
        raise ModelError(message)
