"""Qwen2 and Qwen2.5: Llama's block with biases of queries, keys and values; if asked for, late layers have a window."""

from typing import Any

from ..config_reader import Settings
from ..family import Family, table
from ..model_spec import Outline
from ..rope import rotary, rotary_keys
from ..weight_map import with_biases
from .layered import schedule, window_keys, windowed, windows
from .llama import RULES, block, block_keys


def read(settings: Settings) -> dict[str, Any]:
    model = block(settings) | {"qkv_bias": True}
    turning = rotary(settings, model["head_dim"])
    sizes = windows(settings, model["layers"], settings.whole("max_window_layers", default=28))
    return {
        "vocab_size": settings.whole("vocab_size"),
        "model": model,
        "pe": schedule([windowed(turning.options(), size) for size in sizes]),
        **turning.lengths(),
    }


def write(outline: Outline) -> dict[str, Any]:
    return block_keys(outline) | rotary_keys(outline) | window_keys(outline)


FAMILY = Family("qwen2", "Qwen2ForCausalLM", read, write, table(with_biases(RULES)))
