"""A decoder-only transformer whose position encoding is a plug-in.

    x = embed(tokens)
    x = x + attention(norm(x))
    x = x + mlp(norm(x))            for every layer
    logits = norm(x) W^T

`ModelConfig` has the variants of well-known models: LayerNorm, further norms after the two blocks or after the
embedding, two blocks in parallel that read the same x.

Shapes: B batch, T tokens, D width, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .attention.dispatch import prepare_compiling
from .attention.kv_cache import KVCache, LayerCache
from .attention.layer import Attention, LayerInputs
from .attention.logits import SharedAcrossLayers
from .config import ModelConfig
from .errors import ModelError
from .feed_forward.registry import create as create_feed_forward
from .loss import UNSCORED, mean_nll, token_correct, token_nll
from .norm import norm
from .pe.base import Context, Encodings, PositionEncoding
from .positions.base import PositionPlan, SequenceBatch
from .prefill import chunk_size, chunked_prefill
from .shape import Shape


@dataclass(frozen=True)
class ForwardState:
    """The arguments of a forward pass that all layers share."""

    context: Context
    shared: list[SharedAcrossLayers]  # one per encoding of the model
    cache: KVCache | None
    num_last: int | None = None  # number of last tokens whose outputs the last layer computes; None: all


class Layer(nn.Module):
    def __init__(self, config: ModelConfig, shape: Shape):
        super().__init__()
        self.attention_norm = norm(config, shape.width)
        self.attention = Attention(config, shape)
        self.attention_out_norm = norm(config, shape.width) if config.post_norm else nn.Identity()
        self.mlp_norm = norm(config, shape.width)
        self.mlp = create_feed_forward(config.mlp, shape.width, config.resolved_ffn_width, config.bias)
        self.mlp_out_norm = norm(config, shape.width) if config.post_norm else nn.Identity()
        self.parallel_residual, self.dropout = config.parallel_residual, config.dropout

    def forward(self, x: Tensor, inputs: LayerInputs) -> Tensor:
        """x (B, T, D) -> (B, Tq, D): the last Tq = inputs.context.queries tokens, which attend to all."""
        attended = self.attention(self.attention_norm(x), inputs)
        x = x[:, x.shape[1] - inputs.context.queries :]
        y = x + self._drop(self.attention_out_norm(attended))
        return y + self._drop(self.mlp_out_norm(self.mlp(self.mlp_norm(x if self.parallel_residual else y))))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class Transformer(nn.Module):
    """The model. `encodings` holds one position encoding per layer; layers may share one."""

    def __init__(
        self,
        config: ModelConfig,
        shape: Shape,
        vocab_size: int,
        encodings: list[PositionEncoding],
        plan: PositionPlan,
    ):
        super().__init__()
        assert len(encodings) == shape.layers
        self.config: dict[str, Any] = {}  # the arguments of `model.build`, stored in checkpoints
        self.shape, self.vocab_size, self.train_length = shape, vocab_size, shape.train_length
        self.plan, self.dropout, self.kernel = plan, config.dropout, "auto"
        self.compiled: Callable[..., Tensor] | None = None
        self.checkpoint_activations = False  # in training, recompute each layer in the backward pass to save memory
        self.embedding = nn.Embedding(vocab_size, shape.width)
        self.embedding_norm = norm(config, shape.width) if config.embedding_norm else nn.Identity()
        self.layers = nn.ModuleList(Layer(config, shape) for _ in range(shape.layers))
        self.norm = norm(config, shape.width)
        self.head = None if config.tie else nn.Linear(shape.width, vocab_size, bias=False)
        self.use_encodings(encodings)

    def use_encodings(self, encodings: list[PositionEncoding]) -> None:
        """Install one encoding per layer. An object that several layers share is computed once per forward pass."""
        unique = list(dict.fromkeys(encodings))
        self.encodings = Encodings(unique)
        self.encoding_of_layer = [unique.index(encoding) for encoding in encodings]

    def set_train_length(self, length: int) -> None:
        """Set the training length that extensions and records refer to; the encodings do not change."""
        self.train_length, self.shape = length, replace(self.shape, train_length=length)
        self.config = self.config | {"trained_length": length}

    def forward(
        self,
        tokens: Tensor,
        targets: Tensor | None = None,
        cache: KVCache | None = None,
        documents: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Logits float32 (B, T, V) of tokens int64 (B, T); the mean cross-entropy (a scalar) if targets are given.

        targets: int64 (B, T), UNSCORED where not scored.  cache: the tokens continue those in it.
        documents: (B, T) document number of each token, for packed rows: attention stays inside a document.
        generator: source of a random position plan (see `positions.base.RandomPlan`).
        """
        if targets is None:
            return F.linear(self.hidden(tokens, cache, documents, generator), self.output_weight).float()
        state = self._state(self._context(tokens, cache, documents, generator), cache)
        mean_loss = self.compiled or Transformer._mean_loss
        return mean_loss(self, self._embed(tokens, state.context), state, targets)

    def _mean_loss(self, x: Tensor, state: ForwardState, targets: Tensor) -> Tensor:
        return mean_nll(self._run_layers(x, state), self.output_weight, targets)

    def compile(self, **options) -> None:
        """torch.compile the loss from the first layer on. Positions, angles and biases stay in eager mode: plans draw
        in Python, and the compiler would compute angles and biases anew in every layer."""
        prepare_compiling(self.embedding.weight.device)
        self.compiled = torch.compile(Transformer._mean_loss, **options)

    def loss(self, tokens: Tensor, targets: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Mean cross-entropy over the scored targets, in nats; the logits are never all in memory."""
        return self(tokens, targets, generator=generator)

    @torch.no_grad()
    def nll(self, tokens: Tensor, targets: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """-log p of every scored target in row-major order, float32 (number scored,), in nats."""
        x, targets = self._scored(tokens, targets, generator)
        return token_nll(x, self.output_weight, targets)

    @torch.no_grad()
    def nll_and_correct(
        self, tokens: Tensor, targets: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """`nll`, and True where a scored target is the likeliest token, bool (number scored,)."""
        x, targets = self._scored(tokens, targets, generator)
        return token_nll(x, self.output_weight, targets), token_correct(x, self.output_weight, targets)

    def _scored(self, tokens: Tensor, targets: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Outputs (n, D) and targets (n,) of the scored tokens.

        The last layer computes nothing for the tokens before the first scored one.
        """
        scored = targets != UNSCORED
        columns = scored.any(0).nonzero()
        num_last = scored.shape[1] - int(columns[0]) if len(columns) else 1
        x = self.hidden(tokens, generator=generator, num_last=num_last)
        return x[scored[:, -num_last:]], targets[scored]

    def last_logits(
        self, tokens: Tensor, cache: KVCache | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Logits float32 (B, V) of the token after the last one."""
        x = self.hidden(tokens, cache, generator=generator, num_last=1)
        return F.linear(x[:, -1], self.output_weight).float()

    def hidden(
        self,
        tokens: Tensor,
        cache: KVCache | None = None,
        documents: Tensor | None = None,
        generator: torch.Generator | None = None,
        num_last: int | None = None,
    ) -> Tensor:
        """Normalised outputs of the last layer (B, T, D), or (B, num_last, D) of the last tokens only."""
        context = self._context(tokens, cache, documents, generator)
        if cache is None and not torch.is_grad_enabled() and self._cache_is_exact(context):
            size = chunk_size(self.encodings, context)
            if size < context.queries:
                memory = self.new_cache()
                outputs = context.queries if num_last is None else num_last
                return chunked_prefill(lambda x, n: self.hidden(x, memory, num_last=n), tokens, size, outputs)
        return self._run_layers(self._embed(tokens, context), self._state(context, cache, num_last))

    def _cache_is_exact(self, context: Context) -> bool:
        """Return True if chunks of tokens give the same outputs as all tokens at once."""
        drawn = self.plan.drawn and self.plan.active(self.training)
        return not self.length_dependent and not drawn and context.documents is None

    def _embed(self, tokens: Tensor, context: Context) -> Tensor:
        """The input of the first layer: tokens (B, T) -> (B, T, D)."""
        x = self.embedding_norm(self.embedding(tokens))
        for component in self.components():
            x = component.embed(x, context)
        return F.dropout(x, self.dropout, self.training) if self.dropout else x

    def _state(self, context: Context, cache: KVCache | None, num_last: int | None = None) -> ForwardState:
        shared = [SharedAcrossLayers.of(encoding, context) for encoding in self.encodings]
        return ForwardState(context, shared, cache, num_last)

    def _run_layers(self, x: Tensor, state: ForwardState) -> Tensor:
        """All layers and the final norm: x (B, T, D) -> (B, T, D), or (B, num_last, D)."""
        for index, layer in enumerate(self.layers):
            inputs = self._layer_inputs(index, state)
            if self.checkpoint_activations and self.training and state.cache is None:
                x = checkpoint(layer, x, inputs, use_reentrant=False)
            else:
                x = layer(x, inputs)
        if state.cache is not None:
            state.cache.length = state.context.total_length
        return self.norm(x)

    def _layer_inputs(self, index: int, state: ForwardState) -> LayerInputs:
        which = self.encoding_of_layer[index]
        encoding, context, shared = self.encodings[which], state.context, state.shared[which]
        is_last = index == len(self.layers) - 1
        if is_last and state.num_last is not None and state.num_last < context.queries:
            context = replace(context, queries=state.num_last)
            shared = SharedAcrossLayers.of(encoding, context)
        cache = None if state.cache is None else state.cache.layers[index]
        return LayerInputs(encoding, context, shared, cache, self.kernel)

    def new_cache(self, capacity: int | None = None) -> KVCache:
        """An empty cache. capacity: final number of tokens, which random position plans require."""
        return KVCache([LayerCache() for _ in self.layers], capacity=capacity)

    @property
    def output_weight(self) -> Tensor:
        return self.embedding.weight if self.head is None else self.head.weight

    @property
    def max_positions(self) -> int | None:
        """Longest sequence that there are positions for; None if unlimited."""
        limits = [self.plan.max_length]
        for component in self.components():
            rows = component.max_positions
            if rows is not None and self.plan.end(rows + 1, self.training, component.primary_axis) > rows:
                limits.append(rows)  # otherwise no sequence reaches the limit, however long it is
        return min((limit for limit in limits if limit is not None), default=None)

    @property
    def length_dependent(self) -> bool:
        """True if the outputs of a prefix change with the number of tokens, which makes a KV cache wrong."""
        return any(component.length_dependent for component in self.components())

    def check_length(self, length: int) -> None:
        """Raises ModelError if there are no positions for `length` tokens."""
        limit = self.max_positions
        if limit is not None and length > limit:
            raise ModelError(
                f"length={length}: this position encoding has positions for {limit} tokens only.\n"
                f"Use at most {limit} tokens, or train with train.length={length}."
            )

    def parameter_count(self, embedding: bool = True) -> int:
        """Number of parameters, with or without those of the embedding and the output layer."""
        outside = {id(self.embedding.weight), id(self.output_weight)}
        return sum(p.numel() for p in self.parameters() if embedding or id(p) not in outside)

    def _context(
        self, tokens: Tensor, cache: KVCache | None, documents: Tensor | None, generator: torch.Generator | None
    ) -> Context:
        total = tokens.shape[1] + (0 if cache is None else cache.length)
        self.check_length(total)
        assert cache is None or documents is None, "packed rows are not decoded"
        positions = self._positions(tokens, total, cache, documents, generator)
        contiguous = self.plan.contiguous or not self.plan.active(self.training, documents is not None)
        return Context(positions, tokens.shape[1], self.train_length, total, contiguous, documents)

    def _positions(self, tokens, total, cache, documents, generator) -> Tensor:
        """Positions (B|1, total) of all tokens, cached ones included."""

        def planned(length: int) -> Tensor:
            of = SequenceBatch(len(tokens), tokens.device, self.training, generator, tokens, documents)
            return self.plan.positions(length, of)

        if cache is not None:
            tokens = cache.tokens = tokens if cache.tokens is None else torch.cat([cache.tokens, tokens], dim=1)

        if cache is None or not (self.plan.drawn and self.plan.active(self.training)):
            return planned(total)
        if total > (cache.capacity or 0):
            raise ModelError(
                f"length={total}: this model's position plan draws all positions of a sequence at once, "
                f"and the capacity of this cache is {cache.capacity or 'unknown'}.\n"
                f"Try model.new_cache(capacity={total})"
            )
        if cache.positions is None:
            cache.positions = planned(cache.capacity)
        return cache.positions[:, :total]

    def components(self) -> list[PositionEncoding]:
        """All encodings without repetition; compositions are replaced by their parts."""
        return list(dict.fromkeys(component for encoding in self.encodings for component in encoding.components()))
