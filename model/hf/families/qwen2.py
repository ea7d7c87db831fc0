"""Qwen2 and Qwen2.5: Llama's block with biases of queries, keys and values; optionally late layers have a window."""

from typing import Any

from ..config_reader import HFConfig
from ..family import Family, table
from ..model_spec import ModelSpec
from ..rope import read_rotary, write_rotary
from ..weight_map import with_biases
from .layered import schedule, window_keys, windowed, windows
from .llama import RULES, block, block_keys


def read(config: HFConfig) -> dict[str, Any]:
    model = block(config) | {"qkv_bias": True}
    rotation = read_rotary(config, model["head_dim"])
    sizes = windows(config, model["layers"], config.integer("max_window_layers", default=28))
    return {
        "vocab_size": config.integer("vocab_size"),
        "model": model,
        "pe": schedule([windowed(rotation.options(), size) for size in sizes]),
        **rotation.lengths(),
    }


def write(spec: ModelSpec) -> dict[str, Any]:
    return block_keys(spec) | write_rotary(spec) | window_keys(spec)


FAMILY = Family("qwen2", "Qwen2ForCausalLM", read, write, table(with_biases(RULES)))
