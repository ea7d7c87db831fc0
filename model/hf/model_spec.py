"""A model's configuration with nothing left open, so that two of them can be compared, and written in other words."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..config import ModelConfig

Options = dict[str, Any]


@dataclass(frozen=True)
class Outline:
    """encodings: one a layer, options without names.  longest: what an extension reaches, else the training length.

    extension: options without nulls, None for none.  scaling: what it does; that decides whether two are the same.
    """

    vocab_size: int
    train_length: int
    longest: int = field(compare=False)
    model: ModelConfig
    encodings: list[Options]
    plan: str
    extension: Options | None = field(compare=False)
    scaling: Any

    def first(self, scheme: str) -> Options:
        """The first encoding of a scheme in any layer, alone or inside a composition; {} if there is none."""
        return next((part for layer in self.encodings for part in parts(layer) if part["scheme"] == scheme), {})


def parts(encoding: Options) -> Iterator[Options]:
    for part in encoding.get("parts", [encoding]):
        yield from parts(part) if "parts" in part else (part,)
