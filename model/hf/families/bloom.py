"""Bloom: ALiBi, LayerNorm (of the token embeddings too), GELU by tanh, biases; q, k, v in one matrix, head by head."""

from typing import Any

from ..config_reader import Settings
from ..family import Family, table
from ..model_spec import Outline
from ..weight_map import PerHead, Rule, Same, with_biases

LAYER = "transformer.h.{n}"
RULES: dict[str, Rule] = {
    "embedding.weight": Same("transformer.word_embeddings.weight"),
    "embedding_norm.weight": Same("transformer.word_embeddings_layernorm.weight"),
    "layers.{n}.attention_norm.weight": Same(f"{LAYER}.input_layernorm.weight"),
    "layers.{n}.attention.qkv.weight": PerHead(f"{LAYER}.self_attention.query_key_value.weight"),
    "layers.{n}.attention.out.weight": Same(f"{LAYER}.self_attention.dense.weight"),
    "layers.{n}.mlp_norm.weight": Same(f"{LAYER}.post_attention_layernorm.weight"),
    "layers.{n}.mlp.up.weight": Same(f"{LAYER}.mlp.dense_h_to_4h.weight"),
    "layers.{n}.mlp.down.weight": Same(f"{LAYER}.mlp.dense_4h_to_h.weight"),
    "norm.weight": Same("transformer.ln_f.weight"),
    "head.weight": Same("lm_head.weight"),
}


def read(settings: Settings) -> dict[str, Any]:
    settings.require("apply_residual_connection_post_layernorm", False, default=False)
    width = settings.whole("hidden_size", "n_embed")
    return {
        "vocab_size": settings.whole("vocab_size"),
        "train_length": settings.whole("seq_length", default=2048),  # all published ones
        "model": {
            "layers": settings.whole("n_layer", "num_hidden_layers"),
            "width": width,
            "heads": settings.whole("n_head", "num_attention_heads"),
            "ffn_width": 4 * width,
            "mlp": "gelu_tanh",
            "tie": settings.flag("tie_word_embeddings", default=True),
            "bias": True,
            "norm": "layernorm",
            "embedding_norm": True,
            "norm_eps": settings.number("layer_norm_epsilon", default=1e-5),
        },
        "pe": {"name": "alibi"},
    }


def write(outline: Outline) -> dict[str, Any]:
    model = outline.model
    return {
        "vocab_size": outline.vocab_size,
        "seq_length": outline.train_length,
        "hidden_size": model.width,
        "n_layer": model.layers,
        "n_head": model.heads,
        "layer_norm_epsilon": model.norm_eps,
        "tie_word_embeddings": model.tie,
    }


FAMILY = Family("bloom", "BloomForCausalLM", read, write, table(with_biases(RULES)), prefix="transformer.")
