"""Qwen3: Llama's block with normalised queries and keys, heads of a size of their own."""

from typing import Any

from ..config_reader import Settings
from ..family import Family, table
from ..model_spec import Outline
from ..rope import rotary, rotary_keys
from ..weight_map import Same
from .layered import schedule, window_keys, windowed, windows
from .llama import LAYER, RULES, block, block_keys

NORMS = {f"layers.{{n}}.attention.{x}_norm.weight": Same(f"{LAYER}.self_attn.{x}_norm.weight") for x in "qk"}


def read(settings: Settings) -> dict[str, Any]:
    settings.require("attention_bias", False, default=False)
    model = block(settings) | {"qk_norm": True, "head_dim": settings.whole("head_dim", default=128)}
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


FAMILY = Family("qwen3", "Qwen3ForCausalLM", read, write, table(RULES | NORMS))
