"""Mistral: Llama's block, rotary attention with a sliding window, or without one in later versions."""

from typing import Any

from ..config_reader import HFConfig
from ..family import Family, table
from ..model_spec import ModelSpec
from ..rope import read_rotary, write_rotary
from .layered import sliding
from .llama import RULES, block, block_keys


def read(config: HFConfig) -> dict[str, Any]:
    model = block(config)
    rotation, window = read_rotary(config, model["head_dim"]), sliding(config)
    windowed = {"name": "mistral", "parts": [rotation.options(), {"name": "window", "size": window}]}
    return {
        "vocab_size": config.integer("vocab_size"),
        "model": model,
        "pe": rotation.options() if window is None else windowed,
        **rotation.lengths(),
    }


def write(spec: ModelSpec) -> dict[str, Any]:
    return block_keys(spec) | write_rotary(spec) | {"sliding_window": spec.first("window").get("size")}


FAMILY = Family("mistral", "MistralForCausalLM", read, write, table(RULES))
