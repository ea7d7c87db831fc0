"""GPT-NeoX and Pythia: rotary on a quarter of each head, LayerNorm, GELU, biases, attention and MLP in parallel."""

from typing import Any

from ..config_reader import Settings
from ..family import Family, table
from ..model_spec import Outline
from ..rope import rotary, rotary_keys
from ..weight_map import PerHead, Rule, Same, with_biases

ACTIVATIONS = {"gelu": "gelu", "gelu_fast": "gelu_tanh", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}
LAYER = "gpt_neox.layers.{n}"
RULES: dict[str, Rule] = {
    "embedding.weight": Same("gpt_neox.embed_in.weight"),
    "layers.{n}.attention_norm.weight": Same(f"{LAYER}.input_layernorm.weight"),
    "layers.{n}.attention.qkv.weight": PerHead(f"{LAYER}.attention.query_key_value.weight"),
    "layers.{n}.attention.out.weight": Same(f"{LAYER}.attention.dense.weight"),
    "layers.{n}.mlp_norm.weight": Same(f"{LAYER}.post_attention_layernorm.weight"),
    "layers.{n}.mlp.up.weight": Same(f"{LAYER}.mlp.dense_h_to_4h.weight"),
    "layers.{n}.mlp.down.weight": Same(f"{LAYER}.mlp.dense_4h_to_h.weight"),
    "norm.weight": Same("gpt_neox.final_layer_norm.weight"),
    "head.weight": Same("embed_out.weight", also="lm_head.weight"),
}


def read(settings: Settings) -> dict[str, Any]:
    settings.require("attention_bias", True, default=True)
    width, heads = settings.whole("hidden_size"), settings.whole("num_attention_heads")
    turning = rotary(settings, width // heads, partial=0.25)
    return {
        "vocab_size": settings.whole("vocab_size"),
        "model": {
            "layers": settings.whole("num_hidden_layers"),
            "width": width,
            "heads": heads,
            "ffn_width": settings.whole("intermediate_size"),
            "mlp": settings.translate("hidden_act", ACTIVATIONS, default="gelu"),
            "tie": settings.flag("tie_word_embeddings", default=False),
            "bias": True,
            "norm": "layernorm",
            "parallel_residual": settings.flag("use_parallel_residual", default=True),
            "norm_eps": settings.number("layer_norm_eps", default=1e-5),
        },
        "pe": turning.options(name="gpt_neox"),
        **turning.lengths(),
    }


def write(outline: Outline) -> dict[str, Any]:
    model, turning = outline.model, rotary_keys(outline)
    names = {"rotary_emb_base": turning["rope_theta"], "rotary_pct": turning["partial_rotary_factor"]}
    return (
        turning
        | names
        | {
            "vocab_size": outline.vocab_size,
            "hidden_size": model.width,
            "num_hidden_layers": model.layers,
            "num_attention_heads": model.heads,
            "intermediate_size": model.ffn_width,
            "hidden_act": "gelu_new" if model.mlp == "gelu_tanh" else "gelu",
            "use_parallel_residual": model.parallel_residual,
            "layer_norm_eps": model.norm_eps,
            "tie_word_embeddings": model.tie,
        }
    )


FAMILY = Family(
    "gpt_neox",
    "GPTNeoXForCausalLM",
    read,
    write,
    table(with_biases(RULES)),
    ignored=(r"\.attention\.(masked_)?bias$", r"rotary_emb\.inv_freq$"),
)
