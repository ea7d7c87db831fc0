"""Canonical configuration of a model with all defaults resolved, to compare models and to write config.json."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..config import ModelConfig

Options = dict[str, Any]


@dataclass(frozen=True)
class ModelSpec:
    """Two models are the same if their specs are equal.

    encodings: one per layer, as options without names.
    longest: the length that the extension serves, or the training length.
    extension: its options without nulls; None if there is none.
    scaling: its effect, which is compared in place of its options.
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
        """The first encoding of a scheme in any layer, alone or in a composition; {} if there is none."""
        return next((part for layer in self.encodings for part in leaves(layer) if part["scheme"] == scheme), {})


def leaves(encoding: Options) -> Iterator[Options]:
    """The encodings in a composition, or the encoding itself."""
    for part in encoding.get("parts", [encoding]):
        yield from leaves(part) if "parts" in part else (part,)
