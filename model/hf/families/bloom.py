"""Bloom: ALiBi, LayerNorm (also after the embedding), GELU by tanh, biases; q, k, v in one matrix, head by head."""

from typing import Any

from ..config_reader import HFConfig
from ..family import Family, table
from ..model_spec import ModelSpec
from ..weight_map import InterleavedQKV, Rename, Rule, with_biases

LAYER = "transformer.h.{n}"
RULES: dict[str, Rule] = {
    "embedding.weight": Rename("transformer.word_embeddings.weight"),
    "embedding_norm.weight": Rename("transformer.word_embeddings_layernorm.weight"),
    "layers.{n}.attention_norm.weight": Rename(f"{LAYER}.input_layernorm.weight"),
    "layers.{n}.attention.qkv.weight": InterleavedQKV(f"{LAYER}.self_attention.query_key_value.weight"),
    "layers.{n}.attention.out.weight": Rename(f"{LAYER}.self_attention.dense.weight"),
    "layers.{n}.mlp_norm.weight": Rename(f"{LAYER}.post_attention_layernorm.weight"),
    "layers.{n}.mlp.up.weight": Rename(f"{LAYER}.mlp.dense_h_to_4h.weight"),
    "layers.{n}.mlp.down.weight": Rename(f"{LAYER}.mlp.dense_4h_to_h.weight"),
    "norm.weight": Rename("transformer.ln_f.weight"),
    "head.weight": Rename("lm_head.weight"),
}


def read(config: HFConfig) -> dict[str, Any]:
    config.require("apply_residual_connection_post_layernorm", False, default=False)
    width = config.integer("hidden_size", "n_embed")
    return {
        "vocab_size": config.integer("vocab_size"),
        "train_length": config.integer("seq_length", default=2048),  # all published ones
        "model": {
            "layers": config.integer("n_layer", "num_hidden_layers"),
            "width": width,
            "heads": config.integer("n_head", "num_attention_heads"),
            "ffn_width": 4 * width,
            "mlp": "gelu_tanh",
            "tie": config.flag("tie_word_embeddings", default=True),
            "bias": True,
            "norm": "layernorm",
            "embedding_norm": True,
            "norm_eps": config.number("layer_norm_epsilon", default=1e-5),
        },
        "pe": {"name": "alibi"},
    }


def write(spec: ModelSpec) -> dict[str, Any]:
    model = spec.model
    return {
        "vocab_size": spec.vocab_size,
        "seq_length": spec.train_length,
        "hidden_size": model.width,
        "n_layer": model.layers,
        "n_head": model.heads,
        "layer_norm_epsilon": model.norm_eps,
        "tie_word_embeddings": model.tie,
    }


FAMILY = Family("bloom", "BloomForCausalLM", read, write, table(with_biases(RULES)), prefix="transformer.")
