"""The hooks of a position encoding.

Every scheme is an instance of

    x0   = embed(tokens, pos)
    s_ij = <map_q(q_i, pos_i), map_k(k_j, pos_j)> / sqrt(d) + bias_h(pos_i, pos_j)
    p    = softmax over { j <= i : allowed(pos_i, pos_j) } and a sink

and overrides one hook, rarely two. Each hook is the identity here, so this class *is* NoPE.

A fixed encoding keeps no state: angles, slopes and distances are computed in float32 from Python numbers inside the
hook. No buffers and no caches means nothing that `.bfloat16()` can round, `to_empty()` can lose, or a wrong key can
mix up.

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
    """What a hook may know of a forward pass. Never a tensor's length in place of `train_length` or `total_length`."""

    positions: Tensor  # (B|1, T) of every key, int64 (float32 where a plan is fractional); some plans: (B|1, T, 2)
    queries: int  # the queries are the last so many of these tokens
    train_length: int
    total_length: int  # tokens so far, cached ones included; only `length_dependent` schemes may read it
    contiguous: bool  # positions are start, start + 1, ...: a distance is a difference of indices
    documents: Tensor | None = None  # (B, T) number of the document each token belongs to, in packed rows

    @property
    def query_positions(self) -> Tensor:
        return self.positions[:, self.positions.shape[1] - self.queries :]

    @property
    def span(self) -> int:
        """How many distances there are: they lie in 0 ... span - 1."""
        if self.contiguous:
            return self.positions.shape[1]
        return int(self.positions.max() - self.positions.min()) + 1

    def select_axis(self, axis: int) -> "Context":
        """With one of two position ids a token, 0 or 1. Where the plan has a single one, the second is 0 everywhere."""
        if self.positions.dim() == 3:
            return replace(self, positions=self.positions[..., axis], contiguous=False)
        return replace(self, positions=torch.zeros_like(self.positions), contiguous=False) if axis else self


@dataclass(frozen=True)
class Block:
    """Some queries against some keys, both given as ranges of token indices in the whole sequence."""

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
        """Query position minus key position, (B|1, tq, tk). Negative in the future, which kernels hide."""
        return self.query_positions[:, :, None] - self.key_positions[:, None, :]

    def expand_by_distance(self, table: Tensor) -> Tensor:
        """A table over distance (H|1, n) at every query and key: (B|1, H|1, tq, tk). Far keys share the last entry."""
        return table[:, self.distance_index(table.shape[1])].transpose(0, 1)

    def gather_by_distance(self, rows: Tensor) -> Tensor:
        """Of what each query has for each distance, (B, H, tq, n), the entry of every key: (B, H, tq, tk)."""
        index = self.distance_index(rows.shape[-1])[:, None]
        return rows.gather(-1, index.expand(*rows.shape[:2], -1, -1))

    def distance_index(self, n: int) -> Tensor:
        """Distances as indices of a table of n entries, int64 (B|1, tq, tk). For encodings of `integer_positions`."""
        return self.distance().clamp(min=0, max=n - 1)

    def visible(self) -> Tensor:
        """Which keys are not in a query's future, by index: boolean (tq, tk)."""
        device = self.context.positions.device
        i = torch.arange(self.rows.start, self.rows.stop, device=device)[:, None]
        return torch.arange(self.columns.start, self.columns.stop, device=device) <= i


class PositionEncoding(nn.Module):
    """NoPE, and the base of every other scheme.

    Subclasses are built as `Scheme(shape, *, option, ...)`. Parameters are created empty and filled by `reset`.
    """

    # Declarations. The shared tests check them for every scheme.
    relative = False  # attention depends on differences of positions only
    max_positions: int | None = None  # hard limit on the position (a learned table)
    length_dependent = False  # what a prefix computes changes with `total_length`
    cacheable_keys = False  # `map_k` looks at a token and its position alone, and takes the last tokens as well as all
    per_layer = False  # each layer has its own copy of the parameters
    integer_positions = False  # positions or distances index something, so fractions have no meaning
    position_axes: tuple[
        int, ...
    ] = ()  # where a plan has two ids a token, those that it reads; () is at home with one only

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape

    def reset(self, generator: torch.Generator) -> None:
        """Fill the parameters with their initial values."""

    def embed(self, x: Tensor, context: Context) -> Tensor:
        """Input embedding: x (B, T, D) of the query tokens -> (B, T, D)."""
        return x

    def prepare(self, context: Context) -> Any:
        """Computed once a forward pass and shared by the layers: cos and sin, a bias table."""

    def map_q(self, q: Tensor, context: Context, prepared: Any, state: TokenState) -> Tensor:
        """Queries (B, H, Tq, d) -> (B, H, Tq, d'), d' possibly wider. `state` is that of every token."""
        return q

    def map_k(self, k: Tensor, context: Context, prepared: Any, state: TokenState) -> Tensor:
        """Keys (B, H_kv, T, d) -> (B, H_kv, T, d'). The cache holds them raw, so this sees all of them each time; under
        `cacheable_keys` only those of the last T tokens that are new."""
        return k

    def token_state(self, x: Tensor) -> TokenState:
        """What a content-dependent scheme keeps of each token, from the layer's normalised input x (B, T, D).

        Tensors (B, T, ...), cached beside keys and values exactly as returned.
        """
        return {}

    def content_features(self, state: TokenState, context: Context) -> Any:
        """Turn the per-token state of all tokens into what `scores` and `bias` need (a cumulative sum, say)."""
        return state

    def scores(self, q: Tensor, k: Tensor, scale: float, block: Block) -> Tensor:
        """Attention logits of a block: q (B, H, tq, d), k (B, H, tk, d) -> (B, H, tq, tk). The scaled dot product."""
        return scaled_scores(q, k, scale)

    def regions(self, q: Tensor, k: Tensor) -> list[tuple[Tensor, Tensor]] | None:
        """Where `scores` picks one of several dot products by `region`: queries and keys (B, H, T, d) of each."""
        return None

    def region(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        """Number of the region of a pair, broadcast over (..., tq, tk); -1 for pairs that `allowed` hides."""
        raise NotImplementedError

    def values(self, weights: Tensor, v: Tensor, block: Block) -> Tensor:
        """What attention returns for a block: weights (B, H, tq, tk), v (B, H, tk, d_v) -> (B, H, tq, d_v)."""
        return weights @ v

    def table(self, n: int, device: torch.device | None = None) -> Tensor | None:
        """Float32 (H|1, n) added to the logits at distance 0, 1, ..., n - 1, if the bias is a function of distance."""
        return None

    def bias(self, block: Block) -> Tensor | None:
        """Float32 (B|1, H|1, tq, tk) added to the logits of a block, where a table over distance is not enough."""
        return None

    def allowed(self, query_positions: Tensor, key_positions: Tensor) -> Tensor | None:
        """Boolean, broadcast over (..., tq, tk): which keys a query may see, besides causality and documents."""
        return None

    def sink(self) -> Tensor | None:
        """(H,) logits of a key that is always there and has no value."""
        return None

    def window_size(self) -> int | None:
        """How many keys back a query can see at most (itself included), if there is such a bound."""
        return None

    def by_token_index(self) -> "PositionEncoding":
        """This encoding with keys counted by token index, for position plans with gaps; itself if it counts no keys."""
        return self

    @property
    def primary_axis(self) -> int:
        """Which of two ids a token is the position that `max_positions` is about."""
        return self.position_axes[0] if self.position_axes else 0

    def components(self) -> "list[PositionEncoding]":
        """The encodings this one is made of; compositions answer with their parts."""
        return [self]

    @classmethod
    def for_layers(cls, shape: Shape, options: dict[str, Any]) -> "list[PositionEncoding]":
        """One encoding a layer: shared by all of them, or a copy each if `per_layer`. Schedules choose differently."""
        if cls.per_layer:
            return [cls(shape, **options) for _ in range(shape.layers)]
        return [cls(shape, **options)] * shape.layers

    def overrides(self, *hooks: str) -> bool:
        """Whether this scheme does anything in one of these hooks: what kernels are chosen by."""
        return any(getattr(type(self), hook) is not getattr(PositionEncoding, hook) for hook in hooks)


class Encodings(nn.ModuleList):
    """Encodings that belong to a model: a ModuleList that knows what it holds."""

    if TYPE_CHECKING:

        def __getitem__(self, index: int) -> PositionEncoding: ...
        def __iter__(self) -> Iterator[PositionEncoding]: ...


class DistanceBias(PositionEncoding):
    """A bias that depends on the distance i - j alone: the subclass defines `table` and nothing else.

    That one definition serves every kernel: blocks read it through a strided view, FlexAttention gathers from it, the
    dense reference expands it and the gallery draws it.
    """

    relative = True
    integer_positions = True

    def table(self, n: int, device: torch.device | None = None) -> Tensor:
        raise NotImplementedError


def scaled_scores(q: Tensor, k: Tensor, scale: float, out: Tensor | None = None) -> Tensor:
    """q k^T * scale with the scaling inside the matrix product: (B, H, tq, d), (B, H, tk, d) -> (B, H, tq, tk), which
    may be the contiguous `out`."""
    q3, k3 = q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2)
    nothing = q3.new_empty(())
    found = torch.baddbmm(nothing, q3, k3, beta=0, alpha=scale, out=None if out is None else out.flatten(0, 1))
    return found.unflatten(0, q.shape[:2])


def distances(n: int, device: torch.device | None) -> Tensor:
    """0, 1, ..., n - 1 in float32 (n,), exact up to 2^24 and whatever autocast says."""
    return torch.arange(n, device=device, dtype=torch.float32)


def require(condition: bool, message: str) -> None:
    """Refuse options a constructor cannot work with: raise ModelError(message) unless `condition` holds."""
    if not condition:
        raise ModelError(message)
