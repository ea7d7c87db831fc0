"""ChatGLM2, ChatGLM3 and GLM-4 as their own code stores them; transformers has no class for these names.

Half of each head turns, interleaved; queries, keys and values are one matrix, gate and up another. `rope_ratio`
multiplies the base, as in ChatGLM3 and GLM-4. (The 32k version of ChatGLM2 divides positions instead and says so
nowhere in its config.json.)
"""

from typing import Any

from ..config_reader import Settings
from ..family import Family, table
from ..weight_map import Rule, Same, with_biases

LAYER = "transformer.encoder.layers.{n}"
RULES: dict[str, Rule] = {
    "embedding.weight": Same("transformer.embedding.word_embeddings.weight"),
    "layers.{n}.attention_norm.weight": Same(f"{LAYER}.input_layernorm.weight"),
    "layers.{n}.attention.qkv.weight": Same(f"{LAYER}.self_attention.query_key_value.weight"),
    "layers.{n}.attention.out.weight": Same(f"{LAYER}.self_attention.dense.weight"),
    "layers.{n}.mlp_norm.weight": Same(f"{LAYER}.post_attention_layernorm.weight"),
    "layers.{n}.mlp.up.weight": Same(f"{LAYER}.mlp.dense_h_to_4h.weight"),
    "layers.{n}.mlp.down.weight": Same(f"{LAYER}.mlp.dense_4h_to_h.weight"),
    "norm.weight": Same("transformer.encoder.final_layernorm.weight"),
    "head.weight": Same("transformer.output_layer.weight"),
}


def read(settings: Settings) -> dict[str, Any]:
    settings.require("rmsnorm", True, default=True)
    settings.require("original_rope", True, default=True)
    settings.require("multi_query_attention", True, default=None)  # the first ChatGLM has none of these keys
    settings.require("apply_residual_connection_post_layernorm", False, default=False)
    settings.require("post_layer_norm", True, default=True)
    heads, everywhere = settings.whole("num_attention_heads"), settings.flag("add_bias_linear", default=False)
    return {
        "vocab_size": settings.whole("padded_vocab_size", "vocab_size"),
        "train_length": settings.whole("seq_length"),
        "model": {
            "layers": settings.whole("num_layers", "num_hidden_layers"),
            "width": settings.whole("hidden_size"),
            "heads": heads,
            "kv_heads": settings.whole("multi_query_group_num"),
            "head_dim": settings.whole("kv_channels"),
            "ffn_width": settings.whole("ffn_hidden_size"),
            "bias": everywhere,
            "qkv_bias": settings.flag("add_qkv_bias", default=False),
            "tie": settings.flag("tie_word_embeddings", default=False),
            "norm_eps": settings.number("layernorm_epsilon", default=1e-5),
        },
        "pe": {"name": "chatglm2", "base": 10000.0 * settings.number("rope_ratio", default=1.0)},
    }


FAMILY = Family("chatglm", None, read, None, table(with_biases(RULES)), ignored=(r"rotary_pos_emb\.inv_freq$",))
