"""Baselines of other libraries, each as its library builds it, at the same shape, with the same loss.

A peer is a function from a shape to a module that maps tokens (B, T) to logits (B, T, V). Libraries that are not
installed are listed as missing. Every peer uses its library's fastest attention on the device.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

import torch.nn.functional as F
from torch import Tensor, nn

from longrun.bench.timing import Shape
from model.config import ModelConfig

Peer = Callable[[Shape], nn.Module]


class Minimal(nn.Module):
    """A minimal GPT: learned positions, LayerNorm, GELU, torch's fused attention, tied output, full logits.

    The baseline that needs no other library.
    """

    def __init__(self, shape: Shape):
        super().__init__()
        self.token_embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.position_embedding = nn.Embedding(shape.length, shape.width)
        self.blocks = nn.ModuleList(MinimalBlock(shape.width, shape.heads) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width, bias=False)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.position_embedding.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token_embedding(tokens) + self.position_embedding.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.token_embedding.weight)


class MinimalBlock(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_mlp = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv(self.before_attention(x)).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.before_mlp(x))))


class Logits(nn.Module):
    """A model of `transformers` that returns its logits only."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, tokens: Tensor) -> Tensor:
        return self.inner(input_ids=tokens, use_cache=False).logits


def gpt2(shape: Shape) -> nn.Module:
    library = import_module("transformers")
    config = library.GPT2Config(
        vocab_size=shape.vocabulary, n_positions=shape.length, n_embd=shape.width, n_layer=shape.layers,
        n_head=shape.heads, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, attn_implementation="sdpa", bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    return Logits(library.GPT2LMHeadModel(config))


def llama(shape: Shape) -> nn.Module:
    """SwiGLU with as many weights as a block of 4 D; tied output, as in all peers."""
    library = import_module("transformers")
    config = library.LlamaConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.width, intermediate_size=swiglu_width(shape.width),
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, max_position_embeddings=shape.length,
        tie_word_embeddings=True, attn_implementation="sdpa", bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return Logits(library.LlamaForCausalLM(config))


def swiglu_width(width: int) -> int:
    """As in our models: about 8/3 of the width."""
    return ModelConfig(width=width, heads=1).resolved_ffn_width


def x_transformer(flash: bool, **positions: bool) -> Peer:
    """A decoder of `x-transformers` with one kind of positions. flash: its fused attention, which T5's bias lacks."""

    def build(shape: Shape) -> nn.Module:
        library = import_module("x_transformers")
        layers = library.Decoder(
            dim=shape.width, depth=shape.layers, heads=shape.heads, attn_dim_head=shape.width // shape.heads,
            attn_flash=flash, **positions,
        )  # fmt: skip
        return library.TransformerWrapper(
            num_tokens=shape.vocabulary, max_seq_len=shape.length, attn_layers=layers, use_abs_pos_emb=False,
            tie_embedding=True,
        )  # fmt: skip

    return build


PEERS: dict[str, tuple[str | None, Peer]] = {  # name -> (the package it needs, how to build it)
    "minimal GPT (learned)": (None, Minimal),
    "transformers GPT-2 (learned)": ("transformers", gpt2),
    "transformers Llama (RoPE)": ("transformers", llama),
    "x-transformers (RoPE)": ("x_transformers", x_transformer(True, rotary_pos_emb=True)),
    "x-transformers (ALiBi)": ("x_transformers", x_transformer(True, alibi_pos_bias=True)),
    "x-transformers (T5)": ("x_transformers", x_transformer(False, rel_pos_bias=True)),
}


def available() -> tuple[dict[str, Peer], list[str]]:
    """The peers that can be built here, and one line per peer that cannot."""
    present, missing = {}, []
    for name, (package, build) in PEERS.items():
        if package is None or find_spec(package) is not None:
            present[name] = build
        else:
            missing.append(f"{name}: {package.replace('_', '-')} is not installed")
    return present, missing


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The loss as these libraries compute it: of all logits at once, in float32."""
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())
