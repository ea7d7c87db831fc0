"""Rotary positions as config.json describes them, and as ours do. Both styles are read:

    "rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, ...}          transformers 5
    "rope_theta": 500000.0, "rope_scaling": {"rope_type" or "type": "llama3", "factor": 8.0, ...}   before

A scaling becomes an extension of the model: it is what the model computes, at every length.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import ModelError
from .config_reader import Settings
from .model_spec import Outline

Options = dict[str, Any]


@dataclass(frozen=True)
class Rotary:
    """base, partial: options of `rope`.  extension: the scaling, None for none; it is defined by `train_length`."""

    base: float
    partial: float
    train_length: int
    extension: Options | None
    extension_length: int | None

    def options(self, layout: str = "half", name: str = "rope") -> Options:
        return {"name": name, "base": self.base, "layout": layout, "partial": self.partial}

    def lengths(self) -> Options:
        """What `model.build` is told besides the encoding."""
        if self.extension is None:
            return {"train_length": self.train_length}
        scaled = {"extension": self.extension, "extension_length": self.extension_length}
        return {"train_length": self.train_length, **scaled}


def rotary(settings: Settings, head_dim: int, base: float = 10000.0, partial: float | None = None) -> Rotary:
    """Read base, share of the channels that turn, and scaling.

    base, partial: what the family has if nothing is said; None: all channels turn, whatever is said.
    """
    given = settings.part("rope_parameters", "rope_scaling")
    if any(isinstance(value, dict) for value in given.values.values()):
        raise ModelError(
            f"{given.where} differs from layer to layer, which no family that we know does.\n"
            f"Scalings for all layers alike: {', '.join(SCALINGS)}."
        )
    kind = given.get("rope_type", "type", default="default")
    if kind not in SCALINGS:
        raise ModelError(
            f"{given.where}: rope_type={kind} is not a scaling of ours.\nThere are: {', '.join(SCALINGS)}."
        )
    base = settings.number("rope_theta", "rotary_emb_base", default=base)
    base = given.number("rope_theta", default=base)
    share = settings.number("partial_rotary_factor", "rotary_pct", default=1.0 if partial is None else partial)
    share = given.number("partial_rotary_factor", default=share)
    if partial is None and share != 1:
        raise ModelError(
            f"{settings.where}: partial_rotary_factor={share}, and in this family all channels of a head turn.\n"
            "Partial rotation is in glm, glm4 and gpt_neox."
        )
    longest = settings.whole("max_position_embeddings", "n_positions", "seq_length", "model_max_length")
    original = given.whole("original_max_position_embeddings", default=longest)
    original = settings.whole("original_max_position_embeddings", default=original)
    read, of_original = SCALINGS[kind]
    trained = original if of_original else longest
    extension = read(given, longest, trained)
    target = None if extension is None else max(longest, round(trained * extension["factor"]))
    return Rotary(base, int(head_dim * share) / head_dim, trained, extension, target)


def rotary_keys(outline: Outline) -> Options:
    """The reverse of `rotary`, in both styles. Scalings that config.json has no words for are left out."""
    rope = outline.first("rope") or {"base": 10000.0, "partial": 1.0}
    scaling: Options = {"rope_type": "default"}
    if outline.extension is not None and outline.extension["scheme"] in WRITERS:
        scaling = WRITERS[outline.extension["scheme"]](outline.extension)
    of_original = SCALINGS[scaling["rope_type"]][1]
    if of_original:
        scaling["original_max_position_embeddings"] = outline.train_length
    about = {"rope_theta": rope["base"], "partial_rotary_factor": rope["partial"]}
    return {
        "max_position_embeddings": outline.longest if of_original else outline.train_length,
        "rope_parameters": scaling | about,
        "rope_scaling": scaling if scaling["rope_type"] != "default" else None,
        **about,
    }


def _linear(given: Settings, longest: int, trained: int) -> Options:
    return {"name": "pi", "factor": given.number("factor")}


def _dynamic(given: Settings, longest: int, trained: int) -> Options:
    return {"name": "dynamic_ntk", "factor": given.number("factor")}


def _llama3(given: Settings, longest: int, trained: int) -> Options:
    slow, fast = given.number("low_freq_factor"), given.number("high_freq_factor")
    return {"name": "llama3", "factor": given.number("factor"), "alpha": slow, "beta": fast}


def _yarn(given: Settings, longest: int, trained: int) -> Options:
    factor = given.number("factor", default=None) or longest / trained
    amplitude, m, m_all = (given.number(key, default=None) for key in ("attention_factor", "mscale", "mscale_all_dim"))
    if amplitude is None and m is not None and m_all is not None:
        amplitude = (0.1 * m * math.log(factor) + 1) / (0.1 * m_all * math.log(factor) + 1)
    return {
        "name": "yarn_code",
        "factor": factor,
        "alpha": given.number("beta_slow", default=1.0),
        "beta": given.number("beta_fast", default=32.0),
        "truncate": given.flag("truncate", default=True),
        "amplitude": amplitude,
    }


def _longrope(given: Settings, longest: int, trained: int) -> Options:
    return {
        "name": "longrope",
        "factor": given.number("factor", default=None) or longest / trained,
        "short": given.numbers("short_factor"),
        "long": given.numbers("long_factor"),
        "amplitude": given.number("attention_factor", default=None),
    }


# rope_type -> (how to read it, whether it is defined by the original length rather than by the longest)
SCALINGS: dict[str, tuple[Callable[[Settings, int, int], Options | None], bool]] = {
    "default": (lambda given, longest, trained: None, False),
    "linear": (_linear, False),
    "dynamic": (_dynamic, False),
    "llama3": (_llama3, True),
    "yarn": (_yarn, True),
    "longrope": (_longrope, True),
}


def _by_parts(options: Options) -> Options:
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


def _searched(options: Options) -> Options:
    known = {"rope_type": "longrope", "factor": options["factor"]}
    lists = {"short_factor": options["short"], "long_factor": options["long"]}
    return known | {key: value for key, value in lists.items() if value is not None}


# scheme of the extension -> its words in config.json. Whether they say the same is checked by reading them again.
WRITERS: dict[str, Callable[[Options], Options]] = {
    "pi": lambda options: {"rope_type": "linear", "factor": options["factor"]},
    "dynamic_ntk": lambda options: {"rope_type": "dynamic", "factor": options["factor"]},
    "by_parts": _by_parts,
    "longrope": _searched,
}
