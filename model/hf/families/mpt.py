"""MPT: ALiBi, LayerNorm and GELU without any bias."""

from typing import Any

from ..config_reader import HFConfig
from ..family import Family, table
from ..model_spec import ModelSpec
from ..weight_map import Rename, Rule

LENGTHS = 16  # times the training length: transformers builds its ALiBi table for `max_seq_len` keys and fails beyond
LAYER = "transformer.blocks.{n}"
RULES: dict[str, Rule] = {
    "embedding.weight": Rename("transformer.wte.weight"),
    "layers.{n}.attention_norm.weight": Rename(f"{LAYER}.norm_1.weight"),
    "layers.{n}.attention.qkv.weight": Rename(f"{LAYER}.attn.Wqkv.weight"),
    "layers.{n}.attention.out.weight": Rename(f"{LAYER}.attn.out_proj.weight"),
    "layers.{n}.mlp_norm.weight": Rename(f"{LAYER}.norm_2.weight"),
    "layers.{n}.mlp.up.weight": Rename(f"{LAYER}.ffn.up_proj.weight"),
    "layers.{n}.mlp.down.weight": Rename(f"{LAYER}.ffn.down_proj.weight"),
    "norm.weight": Rename("transformer.norm_f.weight"),
    "head.weight": Rename("lm_head.weight"),
}


def read(config: HFConfig) -> dict[str, Any]:
    config.require("no_bias", True, default=True)
    config.require("logit_scale", None, default=None)
    attention = config.section("attn_config")
    attention.require("alibi", True, default=True)  # transformers adds ALiBi even where this is false
    attention.require("alibi_bias_max", 8, default=8)
    attention.require("clip_qkv", None, default=None)
    attention.require("softmax_scale", None, default=None)
    attention.require("qk_ln", False, default=False)
    attention.require("prefix_lm", False, default=False)
    attention.require("attn_type", "multihead_attention", default="multihead_attention")
    width = config.integer("d_model", "hidden_size")
    return {
        "vocab_size": config.integer("vocab_size"),
        "train_length": config.integer("train_length", "max_seq_len"),
        "model": {
            "layers": config.integer("n_layers", "num_hidden_layers"),
            "width": width,
            "heads": config.integer("n_heads", "num_attention_heads"),
            "ffn_width": width * config.integer("expansion_ratio", default=4),
            "mlp": "gelu",
            "tie": config.flag("tie_word_embeddings", default=True),
            "norm": "layernorm",
            "norm_eps": config.number("layer_norm_epsilon", default=1e-5),
        },
        "pe": {"name": "alibi"},
    }


def write(spec: ModelSpec) -> dict[str, Any]:
    model = spec.model
    return {
        "vocab_size": spec.vocab_size,
        "max_seq_len": LENGTHS * spec.train_length,
        "train_length": spec.train_length,
        "d_model": model.width,
        "n_layers": model.layers,
        "n_heads": model.heads,
        "expansion_ratio": 4,
        "layer_norm_epsilon": model.norm_eps,
        "tie_word_embeddings": model.tie,
        "no_bias": True,
        "attn_config": {"alibi": True},
    }


FAMILY = Family("mpt", "MptForCausalLM", read, write, table(RULES), prefix="transformer.")
