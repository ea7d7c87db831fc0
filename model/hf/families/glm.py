"""GLM-4 in transformers' names (glm), and GLM-4-0414 (glm4), which also normalises what attention and MLP add.

Half of each head turns, interleaved; gate and up are one matrix.
"""

from collections.abc import Callable
from typing import Any

from ..config_reader import Settings
from ..family import Family, table
from ..model_spec import Outline
from ..rope import rotary, rotary_keys
from ..weight_map import Same, with_biases
from .llama import LAYER, RULES, block, block_keys

FUSED = RULES | {"layers.{n}.mlp.up.weight": Same(f"{LAYER}.mlp.gate_up_proj.weight")}
SANDWICH = {
    "layers.{n}.attention_out_norm.weight": Same(f"{LAYER}.post_self_attn_layernorm.weight"),
    "layers.{n}.mlp_out_norm.weight": Same(f"{LAYER}.post_mlp_layernorm.weight"),
}


def reader(sandwich: bool) -> Callable[[Settings], dict[str, Any]]:
    def read(settings: Settings) -> dict[str, Any]:
        model = block(settings, eps=1.5625e-07) | {
            "qkv_bias": settings.flag("attention_bias", default=True),
            "post_norm": sandwich,
            "head_dim": settings.whole("head_dim", default=128),
        }
        turning = rotary(settings, model["head_dim"], partial=0.5)
        return {
            "vocab_size": settings.whole("vocab_size"),
            "model": model,
            "pe": turning.options("interleaved", "chatglm2"),
            **turning.lengths(),
        }

    return read


def write(outline: Outline) -> dict[str, Any]:
    return block_keys(outline) | rotary_keys(outline) | {"attention_bias": outline.model.qkv_bias}


GLM = Family("glm", "GlmForCausalLM", reader(sandwich=False), write, table(with_biases(FUSED)))
GLM4 = Family("glm4", "Glm4ForCausalLM", reader(sandwich=True), write, table(with_biases(FUSED | SANDWICH)))
