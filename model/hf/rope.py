"""Rotary positions and their scaling in config.json. Both styles are read:

    "rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, ...}          transformers 5
    "rope_theta": 500000.0, "rope_scaling": {"rope_type" or "type": "llama3", "factor": 8.0, ...}   before

A scaling becomes an extension of the model, which acts at every length.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import ModelError
from .config_reader import HFConfig
from .model_spec import ModelSpec

Options = dict[str, Any]


@dataclass(frozen=True)
class Rotary:
    """base, partial: options of `rope`.  extension: the scaling, None if there is none; `train_length` defines it."""

    base: float
    partial: float
    train_length: int
    extension: Options | None
    extension_length: int | None

    def options(self, layout: str = "half", name: str = "rope") -> Options:
        return {"name": name, "base": self.base, "layout": layout, "partial": self.partial}

    def lengths(self) -> Options:
        """The options of `model.build` besides the encoding."""
        if self.extension is None:
            return {"train_length": self.train_length}
        scaled = {"extension": self.extension, "extension_length": self.extension_length}
        return {"train_length": self.train_length, **scaled}


def read_rotary(config: HFConfig, head_dim: int, base: float = 10000.0, partial: float | None = None) -> Rotary:
    """Read the base, the share of rotated channels, and the scaling.

    base, partial: defaults of the family. partial=None: the family rotates all channels, and another share is refused.
    """
    scaling = config.section("rope_parameters", "rope_scaling")
    if any(isinstance(value, dict) for value in scaling.values.values()):
        raise ModelError(
            f"{scaling.where} differs from layer to layer, which no supported family does.\n"
            f"Scalings for all layers alike: {', '.join(SCALINGS)}."
        )
    kind = scaling.get("rope_type", "type", default="default")
    if kind not in SCALINGS:
        raise ModelError(f"{scaling.where}: rope_type={kind} is not supported.\nThere are: {', '.join(SCALINGS)}.")
    base = config.number("rope_theta", "rotary_emb_base", default=base)
    base = scaling.number("rope_theta", default=base)
    share = config.number("partial_rotary_factor", "rotary_pct", default=1.0 if partial is None else partial)
    share = scaling.number("partial_rotary_factor", default=share)
    if partial is None and share != 1:
        raise ModelError(
            f"{config.where}: partial_rotary_factor={share}, and this family rotates all channels of a head.\n"
            "Partial rotation is in glm, glm4 and gpt_neox."
        )
    longest = config.integer("max_position_embeddings", "n_positions", "seq_length", "model_max_length")
    original = scaling.integer("original_max_position_embeddings", default=longest)
    original = config.integer("original_max_position_embeddings", default=original)
    read, of_original = SCALINGS[kind]
    trained = original if of_original else longest
    extension = read(scaling, longest, trained)
    target = None if extension is None else max(longest, round(trained * extension["factor"]))
    return Rotary(base, int(head_dim * share) / head_dim, trained, extension, target)


def write_rotary(spec: ModelSpec) -> Options:
    """The reverse of `read_rotary`, in both styles. Scalings that config.json cannot describe are left out."""
    rope = spec.first("rope") or {"base": 10000.0, "partial": 1.0}
    scaling: Options = {"rope_type": "default"}
    if spec.extension is not None and spec.extension["scheme"] in WRITERS:
        scaling = WRITERS[spec.extension["scheme"]](spec.extension)
    of_original = SCALINGS[scaling["rope_type"]][1]
    if of_original:
        scaling["original_max_position_embeddings"] = spec.train_length
    about = {"rope_theta": rope["base"], "partial_rotary_factor": rope["partial"]}
    return {
        "max_position_embeddings": spec.longest if of_original else spec.train_length,
        "rope_parameters": scaling | about,
        "rope_scaling": scaling if scaling["rope_type"] != "default" else None,
        **about,
    }


def _read_linear(scaling: HFConfig, longest: int, trained: int) -> Options:
    return {"name": "pi", "factor": scaling.number("factor")}


def _read_dynamic(scaling: HFConfig, longest: int, trained: int) -> Options:
    return {"name": "dynamic_ntk", "factor": scaling.number("factor")}


def _read_llama3(scaling: HFConfig, longest: int, trained: int) -> Options:
    slow, fast = scaling.number("low_freq_factor"), scaling.number("high_freq_factor")
    return {"name": "llama3", "factor": scaling.number("factor"), "alpha": slow, "beta": fast}


def _read_yarn(scaling: HFConfig, longest: int, trained: int) -> Options:
    factor = scaling.number("factor", default=None) or longest / trained
    amplitude, m, m_all = (
        scaling.number(key, default=None) for key in ("attention_factor", "mscale", "mscale_all_dim")
    )
    if amplitude is None and m is not None and m_all is not None:
        amplitude = (0.1 * m * math.log(factor) + 1) / (0.1 * m_all * math.log(factor) + 1)
    return {
        "name": "yarn_code",
        "factor": factor,
        "alpha": scaling.number("beta_slow", default=1.0),
        "beta": scaling.number("beta_fast", default=32.0),
        "truncate": scaling.flag("truncate", default=True),
        "amplitude": amplitude,
    }


def _read_longrope(scaling: HFConfig, longest: int, trained: int) -> Options:
    return {
        "name": "longrope",
        "factor": scaling.number("factor", default=None) or longest / trained,
        "short": scaling.numbers("short_factor"),
        "long": scaling.numbers("long_factor"),
        "amplitude": scaling.number("attention_factor", default=None),
    }


# rope_type -> (reader, whether the original length defines it rather than the longest)
SCALINGS: dict[str, tuple[Callable[[HFConfig, int, int], Options | None], bool]] = {
    "default": (lambda scaling, longest, trained: None, False),
    "linear": (_read_linear, False),
    "dynamic": (_read_dynamic, False),
    "llama3": (_read_llama3, True),
    "yarn": (_read_yarn, True),
    "longrope": (_read_longrope, True),
}


def _write_by_parts(options: Options) -> Options:
    factor, amplitude = options["factor"], options["amplitude"]
    if options["ramp"] == "rotations":
        return {"rope_type": "llama3", "factor": factor} | {
            "low_freq_factor": options["alpha"],
            "high_freq_factor": options["beta"],
        }
    if amplitude is None:
        amplitude = 0.1 * options["mscale"] * math.log(factor) + 1
    return {"rope_type": "yarn", "factor": factor, "attention_factor": amplitude, "truncate": options["truncate"]} | {
        "beta_slow": options["alpha"],
        "beta_fast": options["beta"],
    }


def _write_longrope(options: Options) -> Options:
    scaling = {"rope_type": "longrope", "factor": options["factor"]}
    lists = {"short_factor": options["short"], "long_factor": options["long"]}
    return scaling | {key: value for key, value in lists.items() if value is not None}


# scheme of the extension -> its config.json. `native_config` verifies the result by reading it again.
WRITERS: dict[str, Callable[[Options], Options]] = {
    "pi": lambda options: {"rope_type": "linear", "factor": options["factor"]},
    "dynamic_ntk": lambda options: {"rope_type": "dynamic", "factor": options["factor"]},
    "by_parts": _write_by_parts,
    "longrope": _write_longrope,
}
