"""From the options of `model.build` to an outline."""

from dataclasses import replace
from typing import Any

import torch

from ..config import ModelConfig
from ..extension.base import Extension, make
from ..extension.frequencies import FrequencyRule, Target
from ..extension.registry import extensions
from ..pe.registry import schemes
from ..pe.window import keys
from ..positions.registry import plans
from ..shape import Shape
from .model_spec import Options, Outline


def outline(options: Options) -> Outline:
    """Of the options of `model.build`, or of a model's `config`."""
    config = ModelConfig(**{k: v for k, v in options.get("model", {}).items() if k not in ("name", "dropout")})
    shape = config.shape(options["train_length"])
    config = replace(
        config,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        ffn_width=config.resolved_ffn_width,
        qkv_bias=config.bias or config.qkv_bias,
    )
    longest = options.get("extension_length") or shape.train_length
    extension = options.get("extension")
    settled = scaling = None
    if extension is not None and extensions.resolve(extension)["scheme"] != "unchanged":
        made = make(shape, extension)
        settled = without_nulls(nameless(extensions.resolve(extension)), made, longest)
        scaling = effect(made, longest) or settled
    return Outline(
        vocab_size=options["vocab_size"],
        train_length=shape.train_length,
        longest=longest,
        model=config,
        encodings=layers(schemes.resolve(options.get("pe", "nope")), shape),
        plan=plan_of(options.get("positions", "contiguous"), shape),
        extension=settled,
        scaling=scaling,
    )


def plan_of(positions: Any, shape: Shape) -> str:
    """The position plan that acts in evaluation: some are for training only."""
    resolved = plans.resolve(positions)
    return resolved["scheme"] if plans.create(shape, resolved).active(training=False) else "contiguous"


def layers(pe: Options, shape: Shape) -> list[Options]:
    """The encoding of each layer."""
    if pe["scheme"] == "schedule":
        pattern = [layers(part, shape)[0] for part in pe["pattern"]]
        return [pattern[layer % len(pattern)] for layer in range(shape.layers)]
    return [in_numbers(nameless(pe), shape)] * shape.layers


def in_numbers(encoding: Options, shape: Shape) -> Options:
    """With sizes in tokens where they are null or shares of the training length."""
    if encoding["scheme"] == "learned" and encoding["rows"] is None:
        return encoding | {"rows": shape.train_length}
    if encoding["scheme"] == "window":
        return encoding | {"size": keys(encoding["size"], shape)}
    parts = encoding.get("parts")
    return encoding if parts is None else encoding | {"parts": [in_numbers(part, shape) for part in parts]}


def nameless(part: Any) -> Any:
    """Without names: two with the same scheme and options are one encoding, whatever they are called."""
    if isinstance(part, list):
        return [nameless(item) for item in part]
    return {key: nameless(value) for key, value in part.items() if key != "name"} if isinstance(part, dict) else part


def without_nulls(options: Options, made: Extension, length: int) -> Options:
    """The numbers that an extension chose for this length where its options are null."""
    known = {key: getattr(made, key, None) if value is None else value for key, value in options.items()}
    if "factor" in known:
        known["factor"] = float(made.ratio(known["factor"], length))
    return known


def effect(made: Extension, length: int) -> list[list[float]] | None:
    """What a rule for rotary frequencies makes of them, within and beyond the length: equal lists, equal rules."""
    if not isinstance(made, FrequencyRule):
        return None
    pairs, base, trained = max(2, made.shape.head_dim // 2), 10000.0, made.shape.train_length
    frequencies = base ** -(torch.arange(pairs, dtype=torch.float64) / pairs)
    found = []
    for total in (trained, 2 * trained, 4 * trained):
        scaled, amplitude = made.scale(frequencies, Target(base, trained, made.ratio(made.factor, length), total))
        found.append([float(f"{x:.9g}") for x in [amplitude, *scaled.tolist()]])
    return found
