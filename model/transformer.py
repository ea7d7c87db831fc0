"""A decoder-only transformer whose position encoding is a plug-in.

    x = embed(tokens)
    x = x + attention(norm(x))
    x = x + mlp(norm(x))            for every layer
    logits = norm(x) W^T

`ModelConfig` has the variants of this that well-known models use: LayerNorm, norms also behind the two blocks or after
the embedding, both blocks reading the same x.

Shapes: B batch, T tokens, D width, V vocabulary.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .attention import flex
from .attention.layer import Attention, LayerCache
from .attention.logits import Prepared, View
from .config import ModelConfig
from .errors import ModelError
from .feed_forward.block import MLP
from .loss import UNSCORED, mean_nll, token_hits, token_nll
from .norm import norm
from .pe.base import Context, Encodings, PositionEncoding
from .positions.base import PositionPlan, SequenceBatch
from .shape import Shape


@dataclass
class Cache:
    """Everything that decoding remembers: keys (see `LayerCache`), values and state of each layer, and positions."""

    layers: list[LayerCache]
    length: int = 0
    tokens: Tensor | None = None  # (B, length), for position plans that look at them
    capacity: int | None = None  # tokens it will hold in the end; random position plans have to know
    positions: Tensor | None = None  # of `capacity` tokens, where they are drawn all at once


class Layer(nn.Module):
    def __init__(self, config: ModelConfig, shape: Shape):
        super().__init__()
        self.attention_norm = norm(config, shape.width)
        self.attention = Attention(config, shape)
        self.attention_out_norm = norm(config, shape.width) if config.sandwich else nn.Identity()
        self.mlp_norm = norm(config, shape.width)
        self.mlp = MLP(config, shape)
        self.mlp_out_norm = norm(config, shape.width) if config.sandwich else nn.Identity()
        self.parallel, self.dropout = config.parallel, config.dropout

    def forward(self, x: Tensor, encoding: PositionEncoding, context: Context, *args) -> Tensor:
        """x (B, T, D) -> (B, context.queries, D): the last so many tokens attend, to all of them."""
        seen = self.attention_norm(x)
        x = x[:, x.shape[1] - context.queries :]
        y = x + self._drop(self.attention_out_norm(self.attention(seen, encoding, context, *args)))
        return y + self._drop(self.mlp_out_norm(self.mlp(self.mlp_norm(x if self.parallel else y))))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class Transformer(nn.Module):
    """`encodings` holds one position encoding a layer; layers may share one."""

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
        self.config: dict[str, Any] = {}  # what `model.build` was given; checkpoints keep it
        self.shape, self.vocab_size, self.train_length = shape, vocab_size, shape.train_length
        self.plan, self.dropout, self.kernel = plan, config.dropout, "auto"
        self.compiled: Callable[..., Tensor] | None = None
        self.checkpoint_activations = False  # in training compute a layer again rather than keep what it computed
        self.embedding = nn.Embedding(vocab_size, shape.width)
        self.embedding_norm = norm(config, shape.width) if config.embedding_norm else nn.Identity()
        self.layers = nn.ModuleList(Layer(config, shape) for _ in range(shape.layers))
        self.norm = norm(config, shape.width)
        self.head = None if config.tie else nn.Linear(shape.width, vocab_size, bias=False)
        self.use_encodings(encodings)

    def use_encodings(self, encodings: list[PositionEncoding]) -> None:
        """Put one encoding into each layer; the same object in several layers is computed once a forward pass."""
        unique = list(dict.fromkeys(encodings))
        self.encodings = Encodings(unique)
        self.encoding_of_layer = [unique.index(encoding) for encoding in encodings]

    def set_train_length(self, length: int) -> None:
        """From now on `length` is the training length, for extensions and records; the encodings stay as they are."""
        self.train_length, self.shape = length, replace(self.shape, train_length=length)
        self.config = self.config | {"trained_length": length}

    def forward(
        self,
        tokens: Tensor,
        targets: Tensor | None = None,
        cache: Cache | None = None,
        documents: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Logits float32 (B, T, V) of tokens int64 (B, T); the mean cross-entropy (a scalar) if targets are given.

        targets: int64 (B, T), UNSCORED where not scored.  cache: tokens continue what it holds.
        documents: (B, T) number of the document of each token, for packed rows: attention stays inside a document.
        generator: what a random position plan draws from (see `positions.base.RandomPlan`).
        """
        if targets is None:
            return F.linear(self.hidden(tokens, cache, documents, generator), self.output_weight).float()
        context = self._context(tokens, cache, documents, generator)
        mean_loss = self.compiled or Transformer._mean_loss
        return mean_loss(self, targets, *self._begin(tokens, context), context, cache)

    def _mean_loss(self, targets: Tensor, *begun) -> Tensor:
        return mean_nll(self._run(*begun), self.output_weight, targets)

    def compile(self, **options) -> None:
        """torch.compile what `forward` does with targets, from the first layer on. What comes before is done once: to
        draw positions is for Python, and angles and biases the compiler would compute anew in every layer."""
        if self.embedding.weight.is_cuda:
            flex.trusted(self.embedding.weight.device)  # a check that cannot be made inside
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
    def answers(
        self, tokens: Tensor, targets: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """`nll`, and whether each scored target is the likeliest token, bool (number scored,)."""
        x, targets = self._scored(tokens, targets, generator)
        known = self.output_weight, targets
        return token_nll(x, *known), token_hits(x, *known)

    def _scored(self, tokens: Tensor, targets: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Outputs (n, D) and targets (n,) of the scored tokens; in the last layer nothing in front of them attends."""
        scored = targets != UNSCORED
        places = scored.any(0).nonzero()
        last = scored.shape[1] - int(places[0]) if len(places) else 1
        x = self.hidden(tokens, generator=generator, last=last)
        return x[scored[:, -last:]], targets[scored]

    def last_logits(
        self, tokens: Tensor, cache: Cache | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Logits float32 (B, V) of the token after the last one."""
        return F.linear(self.hidden(tokens, cache, generator=generator, last=1)[:, -1], self.output_weight).float()

    def hidden(
        self,
        tokens: Tensor,
        cache: Cache | None = None,
        documents: Tensor | None = None,
        generator: torch.Generator | None = None,
        last: int | None = None,
    ) -> Tensor:
        """Normalised outputs of the last layer (B, T, D); (B, last, D) where those of the last tokens are enough."""
        context = self._context(tokens, cache, documents, generator)
        size = context.queries if cache is not None or torch.is_grad_enabled() else self._piece(context)
        if size < context.queries:
            return self._in_pieces(tokens, size, context.queries if last is None else last)
        return self._run(*self._begin(tokens, context), context, cache, last)

    def _piece(self, context: Context) -> int:
        """How many tokens should go through all layers before the next ones do: all of them, but where every layer adds
        the same costly biases. So many are then made at a time, once, as fit into memory."""
        views = [View(encoding, context) for encoding in self.encodings]
        sizes = [view.queries_at_once for view in views if view.adds_the_same and view.encoding.overrides("bias")]
        drawn = self.plan.drawn and self.plan.active(self.training)
        if self.length_dependent or drawn or context.documents is not None or not sizes:
            return context.queries
        return min(sizes)

    def _in_pieces(self, tokens: Tensor, size: int, last: int) -> Tensor:
        """`hidden` of a long sequence, `size` tokens at a time, with a cache of those before."""
        cache, outputs, left = self.new_cache(), [], tokens.shape[1]
        for piece in tokens.split(size, 1):
            left -= piece.shape[1]
            wanted = min(max(last - left, 0), piece.shape[1])  # of the piece's outputs
            outputs.append(self.hidden(piece, cache, last=max(wanted, 1))[:, max(wanted, 1) - wanted :])
        return torch.cat(outputs, 1)

    def _begin(self, tokens: Tensor, context: Context) -> tuple[Tensor, list[Prepared]]:
        """What is done once: the input of the first layer (B, T, D), and what the encodings prepare for all layers."""
        x = self.embedding_norm(self.embedding(tokens))
        for component in self.components():
            x = component.embed(x, context)
        if self.dropout:
            x = F.dropout(x, self.dropout, self.training)
        return x, [Prepared.of(encoding, context) for encoding in self.encodings]

    def _run(
        self, x: Tensor, prepared: list[Prepared], context: Context, cache: Cache | None, last: int | None = None
    ) -> Tensor:
        """All layers and the last norm."""
        for index, layer in enumerate(self.layers):
            which = self.encoding_of_layer[index]
            if layer is self.layers[-1] and last is not None and last < context.queries:
                context = replace(context, queries=last)
                prepared[which] = Prepared.of(self.encodings[which], context)
            memory = None if cache is None else cache.layers[index]
            inputs = x, self.encodings[which], context, prepared[which], memory, self.kernel
            if self.checkpoint_activations and self.training and cache is None:
                x = checkpoint(layer, *inputs, use_reentrant=False)
            else:
                x = layer(*inputs)
        if cache is not None:
            cache.length = context.total_length
        return self.norm(x)

    def new_cache(self, capacity: int | None = None) -> Cache:
        """An empty cache; capacity: tokens it will hold in the end, where a random position plan has to know."""
        return Cache([LayerCache() for _ in self.layers], capacity=capacity)

    @property
    def output_weight(self) -> Tensor:
        return self.embedding.weight if self.head is None else self.head.weight

    @property
    def max_positions(self) -> int | None:
        """Longest sequence that there are positions for, None if there is no limit."""
        limits = [self.plan.max_length]
        for component in self.components():
            rows = component.max_positions
            if rows is not None and self.plan.end(rows + 1, self.training, component.primary_axis) > rows:
                limits.append(rows)  # otherwise no sequence gets there, however long it is
        return min((limit for limit in limits if limit is not None), default=None)

    @property
    def length_dependent(self) -> bool:
        """Whether more tokens change what earlier ones compute; then no cache can be right."""
        return any(component.length_dependent for component in self.components())

    def check_length(self, length: int) -> None:
        """Raise ModelError if there are no positions for `length` tokens."""
        limit = self.max_positions
        if limit is not None and length > limit:
            raise ModelError(
                f"length={length}: this position encoding has positions for {limit} tokens only.\n"
                f"Use at most {limit} tokens, or train with train.length={length}."
            )

    def parameter_count(self, embedding: bool = True) -> int:
        """Number of parameters; without those of the embedding and the output layer if `embedding` is False."""
        outside = {id(self.embedding.weight), id(self.output_weight)}
        return sum(p.numel() for p in self.parameters() if embedding or id(p) not in outside)

    def _context(self, tokens, cache, documents, generator) -> Context:
        total = tokens.shape[1] + (0 if cache is None else cache.length)
        self.check_length(total)
        assert cache is None or documents is None, "packed rows are not decoded"
        positions = self._positions(tokens, total, cache, documents, generator)
        contiguous = self.plan.contiguous or not self.plan.active(self.training, documents is not None)
        return Context(positions, tokens.shape[1], self.train_length, total, contiguous, documents)

    def _positions(self, tokens, total, cache, documents, generator) -> Tensor:
        """Positions of all `total` tokens (B|1, total), those in the cache included."""

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
                f"and this cache was made for {cache.capacity or 'an unknown number of'} tokens.\n"
                f"Try model.new_cache(capacity={total})"
            )
        if cache.positions is None:
            cache.positions = planned(cache.capacity)
        return cache.positions[:, :total]

    def components(self) -> list[PositionEncoding]:
        """Every encoding once, those inside compositions one by one."""
        return list(dict.fromkeys(component for encoding in self.encodings for component in encoding.components()))


@torch.no_grad()
def initialise(model: Transformer, seed: int) -> None:
    """Draw every parameter. The table:

    embedding.weight            N(0, 0.02^2); also the output layer when tied
    head.weight                 N(0, 1 / D)
    attention.qkv, mlp.up       N(0, 1 / fan_in)
    attention.out, mlp.down     N(0, 1 / (2 * layers * fan_in)): the residual stream's variance stays near 1
    norms                       1
    biases                      0, those of LayerNorm too
    encodings                   each scheme's own `reset`

    Each draw has a generator of its own, seeded with (seed, name). So with one seed all schemes start from the same
    weights wherever shapes coincide, however many parameters an encoding adds. On the meta device nothing is drawn.
    """
    if model.embedding.weight.is_meta:
        return
    deep = (2 * len(model.layers)) ** -0.5
    for name, module in model.named_modules():
        if name.startswith("encodings"):
            continue
        bias = getattr(module, "bias", None)
        if isinstance(bias, Tensor):
            bias.zero_()
        if isinstance(module, nn.RMSNorm | nn.LayerNorm):
            module.weight.fill_(1)
        elif isinstance(module, nn.Embedding):
            module.weight.normal_(0, 0.02, generator=generator_for(seed, name, module.weight.device))
        elif isinstance(module, nn.Linear):
            std = module.in_features**-0.5 * (deep if name.endswith((".out", ".down")) else 1.0)
            module.weight.normal_(0, std, generator=generator_for(seed, name, module.weight.device))
    for name, module in model.encodings.named_modules():
        if isinstance(module, PositionEncoding) and any(True for _ in module.parameters()):
            module.reset(generator_for(seed, f"encodings.{name}", next(module.parameters()).device))


def generator_for(seed: int, name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that depends on the seed and a name only."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=7).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest))
