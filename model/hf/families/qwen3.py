"""Qwen3: Llama's block with normalised queries and keys, and a head dimension of its own."""

from typing import Any

from ..config_reader import HFConfig
from ..family import Family, table
from ..model_spec import ModelSpec
from ..rope import read_rotary, write_rotary
from ..weight_map import Rename
from .layered import schedule, window_keys, windowed, windows
from .llama import LAYER, RULES, block, block_keys

NORMS = {f"layers.{{n}}.attention.{x}_norm.weight": Rename(f"{LAYER}.self_attn.{x}_norm.weight") for x in "qk"}


def read(config: HFConfig) -> dict[str, Any]:
    config.require("attention_bias", False, default=False)
    model = block(config) | {"qk_norm": True, "head_dim": config.integer("head_dim", default=128)}
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


FAMILY = Family("qwen3", "Qwen3ForCausalLM", read, write, table(RULES | NORMS))
