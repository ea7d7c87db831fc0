"""From the options of `model.build` to a `ModelSpec`."""

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
from .model_spec import ModelSpec, Options


def resolve_spec(options: Options) -> ModelSpec:
    """The spec for the options of `model.build`, or for a model's `config`."""
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
    resolved, scaling = resolve_extension(options.get("extension"), shape, longest)
    return ModelSpec(
        vocab_size=options["vocab_size"],
        train_length=shape.train_length,
        longest=longest,
        model=config,
        encodings=layers(schemes.resolve(options.get("pe", "nope")), shape),
        plan=evaluation_plan(options.get("positions", "contiguous"), shape),
        extension=resolved,
        scaling=scaling,
    )


def resolve_extension(extension: Any, shape: Shape, length: int) -> tuple[Options | None, Any]:
    """`ModelSpec.extension` and `ModelSpec.scaling`."""
    if extension is None or extensions.resolve(extension)["scheme"] == "unchanged":
        return None, None
    change = make(shape, extension)
    resolved = resolve_nulls(drop_names(extensions.resolve(extension)), change, length)
    return resolved, rope_fingerprint(change, length) or resolved


def evaluation_plan(positions: Any, shape: Shape) -> str:
    """The position plan of evaluation; some plans act only in training."""
    resolved = plans.resolve(positions)
    return resolved["scheme"] if plans.create(shape, resolved).active(training=False) else "contiguous"


def layers(pe: Options, shape: Shape) -> list[Options]:
    """The encoding of each layer."""
    if pe["scheme"] == "schedule":
        pattern = [layers(part, shape)[0] for part in pe["pattern"]]
        return [pattern[layer % len(pattern)] for layer in range(shape.layers)]
    return [resolve_sizes(drop_names(pe), shape)] * shape.layers


def resolve_sizes(encoding: Options, shape: Shape) -> Options:
    """Replace sizes that are null or shares of the training length by numbers of tokens."""
    if encoding["scheme"] == "learned" and encoding["rows"] is None:
        return encoding | {"rows": shape.train_length}
    if encoding["scheme"] == "window":
        return encoding | {"size": keys(encoding["size"], shape)}
    parts = encoding.get("parts")
    return encoding if parts is None else encoding | {"parts": [resolve_sizes(part, shape) for part in parts]}


def drop_names(part: Any) -> Any:
    """Remove the names: encodings with the same scheme and options are equal under any name."""
    if isinstance(part, list):
        return [drop_names(item) for item in part]
    return {key: drop_names(value) for key, value in part.items() if key != "name"} if isinstance(part, dict) else part


def resolve_nulls(options: Options, extension: Extension, length: int) -> Options:
    """Replace null options by the numbers that the extension chose for this length."""
    resolved = {key: getattr(extension, key, None) if value is None else value for key, value in options.items()}
    if "factor" in resolved:
        resolved["factor"] = float(extension.ratio(resolved["factor"], length))
    return resolved


def rope_fingerprint(extension: Extension, length: int) -> list[list[float]] | None:
    """The frequencies after the extension, within and beyond the length; None if it does not change frequencies.

    Extensions with equal fingerprints are the same.
    """
    if not isinstance(extension, FrequencyRule):
        return None
    pairs, base, trained = max(2, extension.shape.head_dim // 2), 10000.0, extension.shape.train_length
    frequencies = base ** -(torch.arange(pairs, dtype=torch.float64) / pairs)
    fingerprint = []
    for total in (trained, 2 * trained, 4 * trained):
        target = Target(base, trained, extension.ratio(extension.factor, length), total)
        scaled, amplitude = extension.scale(frequencies, target)
        fingerprint.append([float(f"{x:.9g}") for x in [amplitude, *scaled.tolist()]])
    return fingerprint
