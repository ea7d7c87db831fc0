"""Context extension: changes to a trained encoding, so that the model serves longer sequences than in training.

An extension is a function of a trained encoding and of the length to serve. It returns a copy that shares the
parameters, and refuses encodings that it does not apply to.

    longer = extended(model, "ntk", 2048)
    longer = extended(model, {"name": "window", "size": 128}, 2048)

One extension is one file in this folder, built as `Scheme(shape, *, option, ...)`, and at least one YAML file in
configs/extension. `add_component` and `replace_rope` serve every extension that is an encoding of model/pe.
"""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn

from ..errors import ModelError
from ..pe.base import PositionEncoding, require
from ..pe.compose import Composition
from ..positions.base import PositionPlan
from ..registry import Part
from ..shape import Shape
from .registry import extensions

Module = TypeVar("Module", bound=nn.Module)
Memo = dict[PositionEncoding, PositionEncoding]  # encoding -> its extension


class Extension:
    """Base of all extensions. A subclass overrides `apply`, and `applies_to` and `scope` if it has limits."""

    scope = "every position encoding"  # the encodings that it applies to, in words, for the message of a refusal

    def __init__(self, shape: Shape):
        self.shape = shape
        self.name = type(self).__name__.lower()

    def bind_position_plan(self, plan: PositionPlan) -> None:
        """Receive the position plan of the model, before anything is extended."""

    def applies_to(self, encoding: PositionEncoding) -> bool:
        """Return whether `apply` supports this encoding."""
        return True

    def apply(self, encoding: PositionEncoding, length: int) -> PositionEncoding:
        """A new encoding, for sequences of `length` tokens."""
        raise NotImplementedError

    def extend(self, encoding: PositionEncoding, length: int, memo: Memo | None = None) -> PositionEncoding:
        """A copy of `encoding` for `length` tokens. In a composition the parts that it applies to are extended.

        memo: encodings that were extended before; a part of several compositions stays one object.
        Raises ModelError if it applies neither to the encoding nor to a part of it.
        """
        memo = {} if memo is None else memo
        if encoding not in memo:
            memo[encoding] = self._extend(encoding, length, memo)
        return memo[encoding]

    def _extend(self, encoding: PositionEncoding, length: int, memo: Memo) -> PositionEncoding:
        if self.applies_to(encoding):
            return self.apply(encoding, length)
        if isinstance(encoding, Composition) and self.applies_somewhere(encoding):
            parts = [
                self.extend(part, length, memo) if self.applies_somewhere(part) else part for part in encoding.members
            ]
            elsewhere = [part for i, part in enumerate(parts) if str(i) not in encoding.parts]
            return Composition(encoding.shape, parts, elsewhere)
        raise self.refusal([encoding])

    def applies_somewhere(self, encoding: PositionEncoding) -> bool:
        """Return whether it applies to the encoding or to a part of it."""
        if self.applies_to(encoding):
            return True
        return isinstance(encoding, Composition) and any(map(self.applies_somewhere, encoding.members))

    def extend_layers(self, encodings: list[PositionEncoding], length: int) -> list[PositionEncoding]:
        """The encoding of each layer, extended where it applies. Layers that shared an encoding share the new one.

        Raises ModelError if it applies in no layer.
        """
        unique = list(dict.fromkeys(encodings))
        if not any(map(self.applies_somewhere, unique)):
            raise self.refusal(unique)
        memo: Memo = {}
        return [self.extend(e, length, memo) if self.applies_somewhere(e) else e for e in encodings]

    def refusal(self, encodings: list[PositionEncoding]) -> ModelError:
        """The error for encodings that it does not apply to, with the extensions that do."""
        kinds = dict.fromkeys(scheme_of(component) for encoding in encodings for component in encoding.components())
        return ModelError(
            f"extension={self.name} does not apply to {', '.join(kinds)}: it is for {self.scope}.\n"
            f"These do: {', '.join(applicable(self.shape, encodings))}"
        )

    def ratio(self, factor: float | None, length: int) -> float:
        """The length to serve in units of the training length: `factor`, or computed from `length` if that is null."""
        return max(1.0, length / self.shape.train_length) if factor is None else factor


def checked_factor(factor: float | None) -> float | None:
    """The option `factor`. Raises ModelError unless it is null or a number from 1 up."""
    require(
        factor is None or (math.isfinite(factor) and factor >= 1),
        f"extension.factor={factor}: the length to serve in units of the training length is 1 or more.\n"
        f"Try extension.factor=null: the length of the evaluation divided by that of the training",
    )
    return factor


@contextmanager
def as_extension() -> Iterator[None]:
    """Rename `pe.` to `extension.` in errors about options that an extension passes on to an encoding."""
    try:
        yield
    except ModelError as error:
        raise ModelError(re.sub(r"\bpe\.", "extension.", str(error))) from error


def scheme_of(encoding: PositionEncoding) -> str:
    """The scheme of an encoding: `kerple` for a Kerple."""
    return type(encoding).__module__.rpartition(".")[2]


def make(shape: Shape, extension: Part) -> Extension:
    """Build the extension that `extension` describes. Raises ModelError for unknown names and wrong options."""
    resolved = extensions.resolve(extension)
    created = extensions.create(shape, resolved)
    created.name = resolved["name"]
    return created


def applicable(shape: Shape, encodings: list[PositionEncoding]) -> list[str]:
    """Names of the extensions that apply to one of these encodings, in the order of their YAML files."""
    return [name for name in extensions.names() if any(map(make(shape, name).applies_somewhere, encodings))]


def extended(model: Any, extension: Part, length: int) -> Any:
    """`model` for sequences of `length` tokens: a copy that shares all weights and has other encodings.

    `none` returns the model itself. Raises ModelError naming the extension, the encoding and what it applies to.
    """
    resolved = extensions.resolve(extension)
    if resolved["scheme"] == "unchanged":
        return model
    layers = [model.encodings[index] for index in model.encoding_of_layer]
    network, change = clone(model), make(model.shape, resolved)
    change.bind_position_plan(model.plan)
    network.use_encodings(change.extend_layers(layers, length))
    reset_added_parameters(network.encodings, model.encodings)
    network.config = extended_config(model.config, resolved, length)
    return network


def reset_added_parameters(encodings: nn.Module, trained: nn.Module) -> None:
    """Initialise the parameters of `encodings` that `trained` does not have."""
    existing = {id(parameter) for parameter in trained.parameters()}
    for module in encodings.modules():
        own = next(module.parameters(recurse=False), None)
        if isinstance(module, PositionEncoding) and own is not None and not own.is_meta and id(own) not in existing:
            module.reset(torch.Generator(own.device).manual_seed(0))


def extended_config(config: dict[str, Any], extension: dict[str, Any], length: int) -> dict[str, Any]:
    """The configuration that builds the extended model; an extension of an extended model becomes a chain."""
    if config.get("extension") is not None:
        extension = {
            "name": "chain",
            "scheme": "chain",
            "parts": [config["extension"], extension],
            "lengths": [config["extension_length"], length],
            "trained": [config["train_length"], config.get("trained_length") or config["train_length"]],
        }
    return config | {"extension": extension, "extension_length": length}


def clone(module: Module) -> Module:
    """A shallow copy: it shares parameters and submodules, and attributes set on it do not change the original."""
    copy = module.__new__(type(module))
    copy.__dict__ = {k: v.copy() if isinstance(v, dict) else v for k, v in module.__dict__.items()}
    return copy
