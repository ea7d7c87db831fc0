"""The sizes and variants of the model. Torch-free: the command line checks them before torch is imported."""

import difflib
from dataclasses import dataclass, field, fields
from typing import Any

from .errors import ModelError
from .feed_forward.registry import blocks, default_width
from .shape import Shape


def _option(doc: str, default: Any, **rules: Any) -> Any:
    return field(default=default, metadata={"doc": doc, **rules})


@dataclass
class ModelConfig:
    """A decoder-only transformer without its position encoding.

    The only configuration with defaults in Python, because `model.build` is a library call with optional options.
    `longrun/config/validate.py` reads the metadata (`choices`, `minimum`, `maximum`) too.
    Raises ModelError for unknown names, numbers out of range, and sizes that do not fit together.
    """

    layers: int = _option("number of blocks", 4, minimum=1)
    width: int = _option("size of the residual stream", 128, minimum=1)
    heads: int = _option("attention heads; width must be a multiple", 4, minimum=1)
    kv_heads: int | None = _option("key/value heads (grouped-query attention); null = heads", None, minimum=1)
    head_dim: int | None = _option("size of a head; null = width / heads", None, minimum=1)
    mlp: str = _option("the feed-forward block", "swiglu", choices=tuple(blocks.names()))
    ffn_width: int | None = _option("width inside the feed-forward block; null = chosen from width", None, minimum=1)
    qk_norm: bool = _option("normalise queries and keys (RMS, per head)", False)
    tie: bool = _option("input and output embedding share one matrix", True)
    bias: bool = _option("biases in the linear layers", False)
    qkv_bias: bool = _option("biases of queries, keys and values, if nowhere else (Qwen2)", False)
    norm: str = _option("the normalisations", "rmsnorm", choices=("rmsnorm", "layernorm"))
    post_norm: bool = _option("also normalise the outputs of attention and feed-forward block (GLM-4-0414)", False)
    parallel_residual: bool = _option("attention and feed-forward block read the same input (GPT-NeoX)", False)
    embedding_norm: bool = _option("normalise the token embeddings (Bloom)", False)
    dropout: float = _option("dropout probability of activations", 0.0, minimum=0.0, maximum=0.95)
    norm_eps: float = _option("epsilon of the normalisations", 1e-5, minimum=1e-12)
    name: str = _option("name of the size in folder names and tables, without effect on the model", "custom")

    def __post_init__(self) -> None:
        for item in fields(self):
            value, choices = getattr(self, item.name), item.metadata.get("choices")
            lowest = item.metadata.get("minimum")
            if choices and value not in choices:
                near = difflib.get_close_matches(str(value), choices, n=1)
                hint = f"\nDid you mean model.{item.name}={near[0]}?" if near else ""
                raise ModelError(f"model.{item.name}={value}: expected one of {', '.join(choices)}{hint}")
            if lowest is not None and value is not None and value < lowest:
                raise ModelError(f"model.{item.name}={value}: expected {lowest} or more")
        if self.head_dim is None and self.width % self.heads:
            near = max(self.heads, round(self.width / self.heads) * self.heads)
            raise ModelError(
                f"model.width={self.width} is not a multiple of model.heads={self.heads}: "
                f"every head has the same size.\nTry model.width={near}, or give the size: model.head_dim=64"
            )
        if self.kv_heads and self.heads % self.kv_heads:
            fitting = [n for n in range(1, self.heads + 1) if self.heads % n == 0]
            raise ModelError(
                f"model.kv_heads={self.kv_heads} does not divide model.heads={self.heads}: "
                f"every key/value head serves the same number of heads.\n"
                f"Try model.kv_heads with one of {', '.join(map(str, fitting))}"
            )

    @property
    def resolved_ffn_width(self) -> int:
        """`ffn_width`, or the default of the feed-forward block. Imports torch if it is the default."""
        return default_width(self.mlp, self.width) if self.ffn_width is None else self.ffn_width

    def shape(self, train_length: int) -> Shape:
        head_dim = self.head_dim or self.width // self.heads
        return Shape(self.width, self.heads, self.kv_heads or self.heads, head_dim, self.layers, train_length)
