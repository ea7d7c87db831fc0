"""Facts about each scheme, from its YAML and from the encodings that it builds. Nothing here depends on its name."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from model.pe.registry import encodings_for, schemes
from model.registry import CONFIGS
from model.shape import Shape

if TYPE_CHECKING:
    from model.pe.base import PositionEncoding

REFERENCE = Shape(width=128, heads=4, kv_heads=4, head_dim=32, layers=4, train_length=128)  # model=tiny
PAPER = re.compile(r"\b(\d{4}\.\d{5})\b")
PLACES = {  # hook -> where it acts, in the order of the computation
    "embed": "embedding",
    "map_k": "queries and keys",
    "map_q": "queries",
    "scores": "logits",
    "table": "bias",
    "bias": "bias",
    "window_size": "mask",
    "allowed": "mask",
    "sink": "softmax",
    "values": "values",
}


@dataclass(frozen=True)
class Facts:
    name: str
    scheme: str  # the file model/pe/<scheme>.py
    summary: str  # the first line of the YAML
    papers: tuple[str, ...]  # arXiv numbers
    acts: tuple[str, ...]  # values of PLACES
    relative: bool
    parameters: int  # learned, at the reference shape
    per_layer: bool
    length: str  # behaviour beyond the training length
    family: str


def summary_of(group: str, name: str) -> str:
    """The comment at the top of a plug-in's YAML. Needs no torch."""
    first = (CONFIGS / group / f"{name}.yaml").read_text().splitlines()[0]
    return first.removeprefix("#").strip() if first.startswith("#") else name


@cache
def facts(name: str) -> Facts:
    import torch

    with torch.device("meta"):  # shapes without memory
        layers = encodings_for(REFERENCE, name)
    encodings = list(dict.fromkeys(layers))
    components = list(dict.fromkeys(component for encoding in encodings for component in encoding.components()))
    summary = summary_of("pe", name)
    return Facts(
        name=name,
        scheme=schemes.options(name)["scheme"],
        summary=summary,
        papers=tuple(dict.fromkeys(PAPER.findall(summary))),
        acts=acts(components),
        relative=all(encoding.relative for encoding in encodings),
        parameters=sum(p.numel() for p in dict.fromkeys(p for e in encodings for p in e.parameters())),
        per_layer=any(component.per_layer for component in components),
        length=beyond_training_length(layers, components),
        family=next(family for family, belongs in FAMILIES.items() if belongs(name, components)),
    )


def acts(components: "list[PositionEncoding]") -> tuple[str, ...]:
    """Places where any of the encodings acts."""
    places = []
    for component in components:
        hooks = [hook for hook in PLACES if component.overrides(hook)]
        if "window_size" in hooks or "allowed" in hooks:  # a table of 0 and -inf
            hooks = [hook for hook in hooks if hook not in ("table", "bias")]
        if "map_k" in hooks:
            hooks = [hook for hook in hooks if hook != "map_q"]
        places += [PLACES[hook] for hook in hooks]
    return tuple(place for place in dict.fromkeys(PLACES.values()) if place in places)


def beyond_training_length(layers: "list[PositionEncoding]", components: "list[PositionEncoding]") -> str:
    ends = [component.max_positions for component in components if component.max_positions is not None]
    limited = [size for layer in layers if (size := layer.window_size()) is not None]
    parts = []
    if ends:
        parts.append(f"refused beyond {min(ends):,} tokens")
    if any(component.length_dependent for component in components):
        parts.append("earlier tokens change with the length")
    if limited:
        where = "" if len(limited) == len(layers) else f" in {len(limited)} of {len(layers)} layers"
        parts.append(f"sees {max(limited)} keys{where}")
    return ", ".join(parts) or "any length"


def _any(*hooks: str) -> "Callable[[str, list[PositionEncoding]], bool]":
    return lambda name, components: any(component.overrides(*hooks) for component in components)


def _hybrid(name: str, components: "list[PositionEncoding]") -> bool:
    """True for several encodings, configured as a list of parts."""
    return bool(schemes.part_lists(schemes.options(name)["scheme"]))


def _regions(name: str, components: "list[PositionEncoding]") -> bool:
    from model.pe.common.regions import Regions

    return any(isinstance(component, Regions) for component in components)


# A scheme belongs to the first family whose condition holds.
FAMILIES: "dict[str, Callable[[str, list[PositionEncoding]], bool]]" = {
    "Hybrids and schedules": _hybrid,
    "Rotations with re-mapped distances": _regions,
    "Codes added to the embedding": _any("embed"),
    "Rotations of queries and keys": _any("map_k"),
    "Logits that depend on content": _any("scores", "token_state", "values"),
    "Masks and sinks": _any("window_size", "allowed", "sink"),
    "Biases on the logits": _any("table", "bias"),
    "Scaled logits": _any("map_q"),
    "Nothing": lambda name, components: True,
}
ORDER = (
    "Nothing",
    "Codes added to the embedding",
    "Rotations of queries and keys",
    "Rotations with re-mapped distances",
    "Biases on the logits",
    "Logits that depend on content",
    "Masks and sinks",
    "Scaled logits",
    "Hybrids and schedules",
)


def linked(text: str) -> str:
    """Markdown with arXiv numbers as links."""
    return PAPER.sub(r"[\1](https://arxiv.org/abs/\1)", text)


def by_family() -> dict[str, list[Facts]]:
    """Every scheme by family, in reading order."""
    every = [facts(name) for name in schemes.names()]
    return {family: [f for f in every if f.family == family] for family in ORDER}
