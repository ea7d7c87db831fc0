"""GPT-2: a learned table of positions, LayerNorm, GELU, biases; its matrices are stored as (in, out)."""

from typing import Any

from ..config_reader import Settings
from ..family import Family, table
from ..model_spec import Outline
from ..weight_map import Rule, Same, Transposed, with_biases

ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}
LAYER = "transformer.h.{n}"
RULES: dict[str, Rule] = {
    "embedding.weight": Same("transformer.wte.weight"),
    "encodings.0.rows": Same("transformer.wpe.weight"),
    "layers.{n}.attention_norm.weight": Same(f"{LAYER}.ln_1.weight"),
    "layers.{n}.attention.qkv.weight": Transposed(f"{LAYER}.attn.c_attn.weight"),
    "layers.{n}.attention.out.weight": Transposed(f"{LAYER}.attn.c_proj.weight"),
    "layers.{n}.mlp_norm.weight": Same(f"{LAYER}.ln_2.weight"),
    "layers.{n}.mlp.up.weight": Transposed(f"{LAYER}.mlp.c_fc.weight"),
    "layers.{n}.mlp.down.weight": Transposed(f"{LAYER}.mlp.c_proj.weight"),
    "norm.weight": Same("transformer.ln_f.weight"),
    "head.weight": Same("lm_head.weight"),
}


def read(settings: Settings) -> dict[str, Any]:
    settings.require("scale_attn_weights", True, default=True)
    settings.require("scale_attn_by_inverse_layer_idx", False, default=False)
    settings.require("add_cross_attention", False, default=False)
    width, length = settings.whole("n_embd", "hidden_size"), settings.whole("n_positions", "n_ctx")
    return {
        "vocab_size": settings.whole("vocab_size"),
        "train_length": settings.whole("train_length", default=length),
        "model": {
            "layers": settings.whole("n_layer"),
            "width": width,
            "heads": settings.whole("n_head"),
            "ffn_width": settings.whole("n_inner", default=4 * width),
            "mlp": settings.translate("activation_function", ACTIVATIONS, default="gelu_new"),
            "tie": settings.flag("tie_word_embeddings", default=True),
            "bias": True,
            "norm": "layernorm",
            "norm_eps": settings.number("layer_norm_epsilon", default=1e-5),
        },
        "pe": {"name": "learned", "rows": length},
    }


def write(outline: Outline) -> dict[str, Any]:
    model = outline.model
    return {
        "vocab_size": outline.vocab_size,
        "n_positions": outline.first("learned").get("rows") or outline.train_length,
        "train_length": outline.train_length,
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
