"""GLM-4 in transformers' names (glm), and GLM-4-0414 (glm4), which also normalises the outputs of attention and MLP.

Half of each head is rotated, interleaved; gate and up are one matrix.
"""

from collections.abc import Callable
from typing import Any

from ..config_reader import HFConfig
from ..family import Family, table
from ..model_spec import ModelSpec
from ..rope import read_rotary, write_rotary
from ..weight_map import Rename, with_biases
from .llama import LAYER, RULES, block, block_keys

FUSED = RULES | {"layers.{n}.mlp.up.weight": Rename(f"{LAYER}.mlp.gate_up_proj.weight")}
SANDWICH = {
    "layers.{n}.attention_out_norm.weight": Rename(f"{LAYER}.post_self_attn_layernorm.weight"),
    "layers.{n}.mlp_out_norm.weight": Rename(f"{LAYER}.post_mlp_layernorm.weight"),
}


def reader(sandwich: bool) -> Callable[[HFConfig], dict[str, Any]]:
    def read(config: HFConfig) -> dict[str, Any]:
        model = block(config, eps=1.5625e-07) | {
            "qkv_bias": config.flag("attention_bias", default=True),
            "post_norm": sandwich,
            "head_dim": config.integer("head_dim", default=128),
        }
        rotation = read_rotary(config, model["head_dim"], partial=0.5)
        return {
            "vocab_size": config.integer("vocab_size"),
            "model": model,
            "pe": rotation.options("interleaved", "chatglm2"),
            **rotation.lengths(),
        }

    return read


def write(spec: ModelSpec) -> dict[str, Any]:
    return block_keys(spec) | write_rotary(spec) | {"attention_bias": spec.model.qkv_bias}


GLM = Family("glm", "GlmForCausalLM", reader(sandwich=False), write, table(with_biases(FUSED)))
GLM4 = Family("glm4", "Glm4ForCausalLM", reader(sandwich=True), write, table(with_biases(FUSED | SANDWICH)))
