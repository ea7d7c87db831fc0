"""SmolLM3: Llama's block, rotary in some layers and no encoding in the others. With none at all it is NoPE."""

from typing import Any

from ..config_reader import Settings
from ..family import Family, table
from ..model_spec import Outline
from ..rope import rotary, rotary_keys
from ..weight_map import with_biases
from .layered import schedule
from .llama import RULES, block, block_keys


def read(settings: Settings) -> dict[str, Any]:
    both = settings.flag("attention_bias", default=False)
    settings.require("mlp_bias", both, default=False)
    settings.require("use_sliding_window", False, default=False)
    model = block(settings, tie=True) | {"bias": both}
    turning, layers = rotary(settings, model["head_dim"], base=2000000.0), model["layers"]
    every = settings.whole("no_rope_layer_interval", default=4)
    turned = settings.get("no_rope_layers", default=[int((layer + 1) % every != 0) for layer in range(layers)])
    if not isinstance(turned, list) or len(turned) != layers or not all(x in (0, 1) for x in turned):
        settings.refuse(["no_rope_layers"], f"{layers} times 0 or 1 (1 means rotary)")
    scaled = any(turned)  # without any rotary layer there is nothing to scale
    return {
        "vocab_size": settings.whole("vocab_size"),
        "model": model,
        "pe": schedule([turning.options() if turns else {"name": "nope"} for turns in turned], "smollm3"),
        **(turning.lengths() if scaled else {"train_length": turning.train_length}),
    }


def write(outline: Outline) -> dict[str, Any]:
    turned = [int(encoding["scheme"] == "rope") for encoding in outline.encodings]
    biases = {"attention_bias": outline.model.bias, "mlp_bias": outline.model.bias}
    return block_keys(outline) | rotary_keys(outline) | biases | {"no_rope_layers": turned}


FAMILY = Family("smollm3", "SmolLM3ForCausalLM", read, write, table(with_biases(RULES)))
