"""GPT-NeoX and Pythia: rotary on a quarter of each head, LayerNorm, GELU, biases, parallel attention and MLP."""

from typing import Any

from ..config_reader import HFConfig
from ..family import Family, table
from ..model_spec import ModelSpec
from ..rope import read_rotary, write_rotary
from ..weight_map import InterleavedQKV, Rename, Rule, with_biases

ACTIVATIONS = {"gelu": "gelu", "gelu_fast": "gelu_tanh", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}
LAYER = "gpt_neox.layers.{n}"
RULES: dict[str, Rule] = {
    "embedding.weight": Rename("gpt_neox.embed_in.weight"),
    "layers.{n}.attention_norm.weight": Rename(f"{LAYER}.input_layernorm.weight"),
    "layers.{n}.attention.qkv.weight": InterleavedQKV(f"{LAYER}.attention.query_key_value.weight"),
    "layers.{n}.attention.out.weight": Rename(f"{LAYER}.attention.dense.weight"),
    "layers.{n}.mlp_norm.weight": Rename(f"{LAYER}.post_attention_layernorm.weight"),
    "layers.{n}.mlp.up.weight": Rename(f"{LAYER}.mlp.dense_h_to_4h.weight"),
    "layers.{n}.mlp.down.weight": Rename(f"{LAYER}.mlp.dense_4h_to_h.weight"),
    "norm.weight": Rename("gpt_neox.final_layer_norm.weight"),
    "head.weight": Rename("embed_out.weight", also="lm_head.weight"),
}


def read(config: HFConfig) -> dict[str, Any]:
    config.require("attention_bias", True, default=True)
    width, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    rotation = read_rotary(config, width // heads, partial=0.25)
    return {
        "vocab_size": config.integer("vocab_size"),
        "model": {
            "layers": config.integer("num_hidden_layers"),
            "width": width,
            "heads": heads,
            "ffn_width": config.integer("intermediate_size"),
            "mlp": config.translate("hidden_act", ACTIVATIONS, default="gelu"),
            "tie": config.flag("tie_word_embeddings", default=False),
            "bias": True,
            "norm": "layernorm",
            "parallel_residual": config.flag("use_parallel_residual", default=True),
            "norm_eps": config.number("layer_norm_eps", default=1e-5),
        },
        "pe": rotation.options(name="gpt_neox"),
        **rotation.lengths(),
    }


def write(spec: ModelSpec) -> dict[str, Any]:
    model, rotation = spec.model, write_rotary(spec)
    names = {"rotary_emb_base": rotation["rope_theta"], "rotary_pct": rotation["partial_rotary_factor"]}
    return (
        rotation
        | names
        | {
            "vocab_size": spec.vocab_size,
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
