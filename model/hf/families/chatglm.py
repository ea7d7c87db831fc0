"""ChatGLM2, ChatGLM3 and GLM-4 as stored by their own code; transformers has no class for these names.

Half of each head is rotated, interleaved; queries, keys and values are one matrix, gate and up another. `rope_ratio`
multiplies the base, as in ChatGLM3 and GLM-4. (The 32k version of ChatGLM2 divides positions instead, which its
config.json does not mention.)
"""

from typing import Any

from ..config_reader import HFConfig
from ..family import Family, table
from ..weight_map import Rename, Rule, with_biases

LAYER = "transformer.encoder.layers.{n}"
RULES: dict[str, Rule] = {
    "embedding.weight": Rename("transformer.embedding.word_embeddings.weight"),
    "layers.{n}.attention_norm.weight": Rename(f"{LAYER}.input_layernorm.weight"),
    "layers.{n}.attention.qkv.weight": Rename(f"{LAYER}.self_attention.query_key_value.weight"),
    "layers.{n}.attention.out.weight": Rename(f"{LAYER}.self_attention.dense.weight"),
    "layers.{n}.mlp_norm.weight": Rename(f"{LAYER}.post_attention_layernorm.weight"),
    "layers.{n}.mlp.up.weight": Rename(f"{LAYER}.mlp.dense_h_to_4h.weight"),
    "layers.{n}.mlp.down.weight": Rename(f"{LAYER}.mlp.dense_4h_to_h.weight"),
    "norm.weight": Rename("transformer.encoder.final_layernorm.weight"),
    "head.weight": Rename("transformer.output_layer.weight"),
}


def read(config: HFConfig) -> dict[str, Any]:
    config.require("rmsnorm", True, default=True)
    config.require("original_rope", True, default=True)
    config.require("multi_query_attention", True, default=None)  # the first ChatGLM has none of these keys
    config.require("apply_residual_connection_post_layernorm", False, default=False)
    config.require("post_layer_norm", True, default=True)
    heads, everywhere = config.integer("num_attention_heads"), config.flag("add_bias_linear", default=False)
    return {
        "vocab_size": config.integer("padded_vocab_size", "vocab_size"),
        "train_length": config.integer("seq_length"),
        "model": {
            "layers": config.integer("num_layers", "num_hidden_layers"),
            "width": config.integer("hidden_size"),
            "heads": heads,
            "kv_heads": config.integer("multi_query_group_num"),
            "head_dim": config.integer("kv_channels"),
            "ffn_width": config.integer("ffn_hidden_size"),
            "bias": everywhere,
            "qkv_bias": config.flag("add_qkv_bias", default=False),
            "tie": config.flag("tie_word_embeddings", default=False),
            "norm_eps": config.number("layernorm_epsilon", default=1e-5),
        },
        "pe": {"name": "chatglm2", "base": 10000.0 * config.number("rope_ratio", default=1.0)},
    }


FAMILY = Family("chatglm", None, read, None, table(with_biases(RULES)), ignored=(r"rotary_pos_emb\.inv_freq$",))
