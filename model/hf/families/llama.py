"""Llama 1, 2 and 3. Mistral, Qwen2, Qwen3, SmolLM3 and Baichuan have the same block."""

from typing import Any

from ..config_reader import HFConfig
from ..family import Family, table
from ..model_spec import ModelSpec
from ..rope import read_rotary, write_rotary
from ..weight_map import Rename, Rule, gated, projections, with_biases

LAYER = "model.layers.{n}"
RULES: dict[str, Rule] = {
    "embedding.weight": Rename("model.embed_tokens.weight"),
    "layers.{n}.attention_norm.weight": Rename(f"{LAYER}.input_layernorm.weight"),
    "layers.{n}.attention.qkv.weight": projections(
        f"{LAYER}.self_attn.q_proj.weight", f"{LAYER}.self_attn.k_proj.weight", f"{LAYER}.self_attn.v_proj.weight"
    ),
    "layers.{n}.attention.out.weight": Rename(f"{LAYER}.self_attn.o_proj.weight"),
    "layers.{n}.mlp_norm.weight": Rename(f"{LAYER}.post_attention_layernorm.weight"),
    "layers.{n}.mlp.up.weight": gated(f"{LAYER}.mlp.gate_proj.weight", f"{LAYER}.mlp.up_proj.weight"),
    "layers.{n}.mlp.down.weight": Rename(f"{LAYER}.mlp.down_proj.weight"),
    "norm.weight": Rename("model.norm.weight"),
    "head.weight": Rename("lm_head.weight"),
}


def block(config: HFConfig, tie: bool = False, eps: float = 1e-6) -> dict[str, Any]:
    """Options of the model that all of these families share. tie, eps: the defaults of the family."""
    config.require("hidden_act", "silu", default="silu")
    width, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    return {
        "layers": config.integer("num_hidden_layers"),
        "width": width,
        "heads": heads,
        "kv_heads": config.integer("num_key_value_heads", default=heads),
        "head_dim": config.integer("head_dim", default=width // heads),
        "ffn_width": config.integer("intermediate_size"),
        "tie": config.flag("tie_word_embeddings", default=tie),
        "norm_eps": config.number("rms_norm_eps", default=eps),
    }


def block_keys(spec: ModelSpec) -> dict[str, Any]:
    """config.json of the block; the reverse of `block`."""
    model = spec.model
    return {
        "vocab_size": spec.vocab_size,
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


def read(config: HFConfig) -> dict[str, Any]:
    both = config.flag("attention_bias", default=False)
    config.require("mlp_bias", both, default=False)
    model = block(config) | {"bias": both}
    rotation = read_rotary(config, model["head_dim"])
    return {
        "vocab_size": config.integer("vocab_size"),
        "model": model,
        "pe": rotation.options(),
        **rotation.lengths(),
    }


def write(spec: ModelSpec) -> dict[str, Any]:
    biases = {"attention_bias": spec.model.bias, "mlp_bias": spec.model.bias}
    return block_keys(spec) | write_rotary(spec) | biases


FAMILY = Family("llama", "LlamaForCausalLM", read, write, table(with_biases(RULES)))
