"""Llama 1, 2 and 3. Mistral, Qwen2, Qwen3, SmolLM3 and Baichuan have the same block."""

from typing import Any

from ..config_reader import Settings
from ..family import Family, table
from ..model_spec import Outline
from ..rope import rotary, rotary_keys
from ..weight_map import Rule, Same, gated, projections, with_biases

LAYER = "model.layers.{n}"
RULES: dict[str, Rule] = {
    "embedding.weight": Same("model.embed_tokens.weight"),
    "layers.{n}.attention_norm.weight": Same(f"{LAYER}.input_layernorm.weight"),
    "layers.{n}.attention.qkv.weight": projections(
        f"{LAYER}.self_attn.q_proj.weight", f"{LAYER}.self_attn.k_proj.weight", f"{LAYER}.self_attn.v_proj.weight"
    ),
    "layers.{n}.attention.out.weight": Same(f"{LAYER}.self_attn.o_proj.weight"),
    "layers.{n}.mlp_norm.weight": Same(f"{LAYER}.post_attention_layernorm.weight"),
    "layers.{n}.mlp.up.weight": gated(f"{LAYER}.mlp.gate_proj.weight", f"{LAYER}.mlp.up_proj.weight"),
    "layers.{n}.mlp.down.weight": Same(f"{LAYER}.mlp.down_proj.weight"),
    "norm.weight": Same("model.norm.weight"),
    "head.weight": Same("lm_head.weight"),
}


def block(settings: Settings, tie: bool = False, eps: float = 1e-6) -> dict[str, Any]:
    """Options of the model that all of these families share. tie, eps: what the family has if nothing is said."""
    settings.require("hidden_act", "silu", default="silu")
    width, heads = settings.whole("hidden_size"), settings.whole("num_attention_heads")
    return {
        "layers": settings.whole("num_hidden_layers"),
        "width": width,
        "heads": heads,
        "kv_heads": settings.whole("num_key_value_heads", default=heads),
        "head_dim": settings.whole("head_dim", default=width // heads),
        "ffn_width": settings.whole("intermediate_size"),
        "tie": settings.flag("tie_word_embeddings", default=tie),
        "norm_eps": settings.number("rms_norm_eps", default=eps),
    }


def block_keys(outline: Outline) -> dict[str, Any]:
    """config.json of the block; the reverse of `block`."""
    model = outline.model
    return {
        "vocab_size": outline.vocab_size,
        "hidden_size": model.width,
        "intermediate_size": model.ffn_width,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": model.norm_eps,
        "tie_word_embeddings": model.tie,
    }


def read(settings: Settings) -> dict[str, Any]:
    both = settings.flag("attention_bias", default=False)
    settings.require("mlp_bias", both, default=False)
    model = block(settings) | {"bias": both}
    turning = rotary(settings, model["head_dim"])
    return {
        "vocab_size": settings.whole("vocab_size"),
        "model": model,
        "pe": turning.options(),
        **turning.lengths(),
    }


def write(outline: Outline) -> dict[str, Any]:
    biases = {"attention_bias": outline.model.bias, "mlp_bias": outline.model.bias}
    return block_keys(outline) | rotary_keys(outline) | biases


FAMILY = Family("llama", "LlamaForCausalLM", read, write, table(with_biases(RULES)))
