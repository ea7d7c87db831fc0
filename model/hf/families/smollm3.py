"""SmolLM3: Llama's block, rotary in some layers and no encoding in the others. With none at all it is NoPE."""

from typing import Any

from ..config_reader import HFConfig
from ..family import Family, table
from ..model_spec import ModelSpec
from ..rope import read_rotary, write_rotary
from ..weight_map import with_biases
from .layered import schedule
from .llama import RULES, block, block_keys


def read(config: HFConfig) -> dict[str, Any]:
    both = config.flag("attention_bias", default=False)
    config.require("mlp_bias", both, default=False)
    config.require("use_sliding_window", False, default=False)
    model = block(config, tie=True) | {"bias": both}
    rotation, layers = read_rotary(config, model["head_dim"], base=2000000.0), model["layers"]
    every = config.integer("no_rope_layer_interval", default=4)
    rotated = config.get("no_rope_layers", default=[int((layer + 1) % every != 0) for layer in range(layers)])
    if not isinstance(rotated, list) or len(rotated) != layers or not all(x in (0, 1) for x in rotated):
        config.refuse(["no_rope_layers"], f"{layers} times 0 or 1 (1 means rotary)")
    scaled = any(rotated)  # without any rotary layer there is nothing to scale
    return {
        "vocab_size": config.integer("vocab_size"),
        "model": model,
        "pe": schedule([rotation.options() if rotary else {"name": "nope"} for rotary in rotated], "smollm3"),
        **(rotation.lengths() if scaled else {"train_length": rotation.train_length}),
    }


def write(spec: ModelSpec) -> dict[str, Any]:
    rotated = [int(encoding["scheme"] == "rope") for encoding in spec.encodings]
    biases = {"attention_bias": spec.model.bias, "mlp_bias": spec.model.bias}
    return block_keys(spec) | write_rotary(spec) | biases | {"no_rope_layers": rotated}


FAMILY = Family("smollm3", "SmolLM3ForCausalLM", read, write, table(with_biases(RULES)))
