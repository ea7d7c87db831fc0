from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..registry import Part
from ..shape import Shape
from .base import Block, Context, PositionEncoding, require, scaled_scores
from .registry import encodings_for

ROWS = 16  # queries per pass of the network: the intermediate results stay in the processor's cache


class Dape(PositionEncoding):
    """Data-adaptive positional encoding (DAPE, 2405.14722): a network transforms the logits and biases of all heads.

        S + B + f([S; B]),     f: 2H -> hidden, leaky ReLU -> H, applied to every pair of tokens, one network per layer

    B is a content-free bias with parameters for each layer, as released. Unlike the released code, f has no bias in its
    last layer: a number that is added to all keys of a query changes nothing.

    base: the encoding that is B; with `nope` the network sees the logits alone.

    f mixes heads, so no fused kernel applies. Training keeps 2 `hidden` float32 numbers for every pair of tokens, so it
    is meant for short training lengths. Memory for inference is linear in the length.
    """

    per_layer = True

    def __init__(self, shape: Shape, *, base: Part, hidden: int):
        super().__init__(shape)
        assert isinstance(base, PositionEncoding)  # built by `for_layers`
        require(hidden >= 1, f"pe.hidden={hidden}: expected 1 or more.\nTry pe.hidden=32")
        self.base = base
        self.relative, self.integer_positions = base.relative, base.integer_positions
        self.from_scores = nn.Linear(shape.heads, hidden)
        biased = base.overrides("table", "bias")
        self.from_bias = nn.Linear(shape.heads, hidden, bias=False) if biased else None
        self.out = nn.Linear(hidden, shape.heads, bias=False)

    @classmethod
    def for_layers(cls, shape: Shape, options: dict[str, Any]) -> list[PositionEncoding]:
        bases = [encodings_for(shape, options["base"])[layer] for layer in range(shape.layers)]  # copies
        hooks = ("embed", "map_q", "map_k", "scores", "values", "token_state", "allowed", "sink", "window_size")
        require(
            not any(base.overrides(*hooks) for base in bases),
            f"pe.base={options['base']['name']}: DAPE adapts an encoding that is a bias of positions alone.\n"
            "Try pe.base=alibi, kerple_log or fire; combine others by pe=compose",
        )
        return [cls(shape, **{**options, "base": base}) for base in bases]

    def reset(self, generator: torch.Generator) -> None:
        fan_in = self.shape.heads * (1 if self.from_bias is None else 2)
        for linear in (self.from_scores, self.from_bias):
            for parameter in [] if linear is None else linear.parameters():
                nn.init.uniform_(parameter, -(fan_in**-0.5), fan_in**-0.5, generator=generator)
        bound = self.out.in_features**-0.5
        nn.init.uniform_(self.out.weight, -bound, bound, generator=generator)

    def prepare(self, context: Context) -> tuple[Any, Tensor | None]:
        table = self.base.table(context.span, context.positions.device) if self.base.overrides("table") else None
        return self.base.prepare(context), table

    def scores(self, q: Tensor, k: Tensor, scale: float, block: Block) -> Tensor:
        with torch.autocast(q.device.type, enabled=False):
            s = scaled_scores(q, k, scale).float()  # (B, H, tq, tk)
            if self.from_bias is None:
                return torch.cat([self._adapted(part, None) for part in s.split(ROWS, 2)], 2)
            b = self._base_bias(block)
            parts = zip(s.split(ROWS, 2), b.split(ROWS, 2), strict=True)
            return torch.cat([self._adapted(*part) for part in parts], 2)

    def _adapted(self, s: Tensor, b: Tensor | None) -> Tensor:
        """S + B + f([S; B]) of s (B, H, rows, tk) and b (B|1, H, rows, tk)."""
        hidden = self.from_scores.weight.float() @ s.flatten(2) + self.from_scores.bias.float()[:, None]
        if self.from_bias is not None and b is not None:
            hidden = hidden + self.from_bias.weight.float() @ b.flatten(2)
            s = s + b
        return s + (self.out.weight.float() @ F.leaky_relu(hidden)).unflatten(-1, s.shape[2:])

    def _base_bias(self, block: Block) -> Tensor:
        """B at every pair of the block, (B|1, H, tq, tk)."""
        prepared, table = block.prepared
        bias = (
            block.expand_by_distance(table) if table is not None else self.base.bias(replace(block, prepared=prepared))
        )
        assert bias is not None
        return bias
