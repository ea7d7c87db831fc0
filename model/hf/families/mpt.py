"""MPT: ALiBi, LayerNorm and GELU without any bias."""

from typing import Any

from ..config_reader import Settings
from ..family import Family, table
from ..model_spec import Outline
from ..weight_map import Rule, Same

REACH = 16  # transformers makes its table of ALiBi for `max_seq_len` keys and fails beyond
LAYER = "transformer.blocks.{n}"
RULES: dict[str, Rule] = {
    "embedding.weight": Same("transformer.wte.weight"),
    "layers.{n}.attention_norm.weight": Same(f"{LAYER}.norm_1.weight"),
    "layers.{n}.attention.qkv.weight": Same(f"{LAYER}.attn.Wqkv.weight"),
    "layers.{n}.attention.out.weight": Same(f"{LAYER}.attn.out_proj.weight"),
    "layers.{n}.mlp_norm.weight": Same(f"{LAYER}.norm_2.weight"),
    "layers.{n}.mlp.up.weight": Same(f"{LAYER}.ffn.up_proj.weight"),
    "layers.{n}.mlp.down.weight": Same(f"{LAYER}.ffn.down_proj.weight"),
    "norm.weight": Same("transformer.norm_f.weight"),
    "head.weight": Same("lm_head.weight"),
}


def read(settings: Settings) -> dict[str, Any]:
    settings.require("no_bias", True, default=True)
    settings.require("logit_scale", None, default=None)
    attention = settings.part("attn_config")
    attention.require("alibi", True, default=True)  # transformers adds ALiBi even where this is false
    attention.require("alibi_bias_max", 8, default=8)
    attention.require("clip_qkv", None, default=None)
    attention.require("softmax_scale", None, default=None)
    attention.require("qk_ln", False, default=False)
    attention.require("prefix_lm", False, default=False)
    attention.require("attn_type", "multihead_attention", default="multihead_attention")
    width = settings.whole("d_model", "hidden_size")
    return {
        "vocab_size": settings.whole("vocab_size"),
        "train_length": settings.whole("train_length", "max_seq_len"),
        "model": {
            "layers": settings.whole("n_layers", "num_hidden_layers"),
            "width": width,
            "heads": settings.whole("n_heads", "num_attention_heads"),
            "ffn_width": width * settings.whole("expansion_ratio", default=4),
            "mlp": "gelu",
            "tie": settings.flag("tie_word_embeddings", default=True),
            "norm": "layernorm",
            "norm_eps": settings.number("layer_norm_epsilon", default=1e-5),
        },
        "pe": {"name": "alibi"},
    }


def write(outline: Outline) -> dict[str, Any]:
    model = outline.model
    return {
        "vocab_size": outline.vocab_size,
        "max_seq_len": REACH * outline.train_length,
        "train_length": outline.train_length,
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
