"""GPT-2: a learned table of positions, LayerNorm, GELU, biases; matrices are stored as (in, out)."""

from typing import Any

from ..config_reader import HFConfig
from ..family import Family, table
from ..model_spec import ModelSpec
from ..weight_map import Rename, Rule, Transposed, with_biases

ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}
LAYER = "transformer.h.{n}"
RULES: dict[str, Rule] = {
    "embedding.weight": Rename("transformer.wte.weight"),
    "encodings.0.rows": Rename("transformer.wpe.weight"),
    "layers.{n}.attention_norm.weight": Rename(f"{LAYER}.ln_1.weight"),
    "layers.{n}.attention.qkv.weight": Transposed(f"{LAYER}.attn.c_attn.weight"),
    "layers.{n}.attention.out.weight": Transposed(f"{LAYER}.attn.c_proj.weight"),
    "layers.{n}.mlp_norm.weight": Rename(f"{LAYER}.ln_2.weight"),
    "layers.{n}.mlp.up.weight": Transposed(f"{LAYER}.mlp.c_fc.weight"),
    "layers.{n}.mlp.down.weight": Transposed(f"{LAYER}.mlp.c_proj.weight"),
    "norm.weight": Rename("transformer.ln_f.weight"),
    "head.weight": Rename("lm_head.weight"),
}


def read(config: HFConfig) -> dict[str, Any]:
    config.require("scale_attn_weights", True, default=True)
    config.require("scale_attn_by_inverse_layer_idx", False, default=False)
    config.require("add_cross_attention", False, default=False)
    width, length = config.integer("n_embd", "hidden_size"), config.integer("n_positions", "n_ctx")
    return {
        "vocab_size": config.integer("vocab_size"),
        "train_length": config.integer("train_length", default=length),
        "model": {
            "layers": config.integer("n_layer"),
            "width": width,
            "heads": config.integer("n_head"),
            "ffn_width": config.integer("n_inner", default=4 * width),
            "mlp": config.translate("activation_function", ACTIVATIONS, default="gelu_new"),
            "tie": config.flag("tie_word_embeddings", default=True),
            "bias": True,
            "norm": "layernorm",
            "norm_eps": config.number("layer_norm_epsilon", default=1e-5),
        },
        "pe": {"name": "learned", "rows": length},
    }


def write(spec: ModelSpec) -> dict[str, Any]:
    model = spec.model
    return {
        "vocab_size": spec.vocab_size,
        "n_positions": spec.first("learned").get("rows") or spec.train_length,
        "train_length": spec.train_length,
        "n_embd": model.width,
        "n_layer": model.layers,
        "n_head": model.heads,
        "n_inner": model.ffn_width,
        "activation_function": "gelu_new" if model.mlp == "gelu_tanh" else "gelu",
        "layer_norm_epsilon": model.norm_eps,
        "tie_word_embeddings": model.tie,
    }


FAMILY = Family(
    "gpt2",
    "GPT2LMHeadModel",
    read,
    write,
    table(with_biases(RULES)),
    prefix="transformer.",
    ignored=(r"\.attn\.(masked_)?bias$",),
)
