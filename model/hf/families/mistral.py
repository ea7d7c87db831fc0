"""Mistral: Llama's block, rotary attention in a sliding window, or without one in later versions."""

from typing import Any

from ..config_reader import Settings
from ..family import Family, table
from ..model_spec import Outline
from ..rope import rotary, rotary_keys
from .layered import sliding
from .llama import RULES, block, block_keys


def read(settings: Settings) -> dict[str, Any]:
    model = block(settings)
    turning, window = rotary(settings, model["head_dim"]), sliding(settings)
    windowed = {"name": "mistral", "parts": [turning.options(), {"name": "window", "size": window}]}
    return {
        "vocab_size": settings.whole("vocab_size"),
        "model": model,
        "pe": turning.options() if window is None else windowed,
        **turning.lengths(),
    }


def write(outline: Outline) -> dict[str, Any]:
    return block_keys(outline) | rotary_keys(outline) | {"sliding_window": outline.first("window").get("size")}


FAMILY = Family("mistral", "MistralForCausalLM", read, write, table(RULES))
