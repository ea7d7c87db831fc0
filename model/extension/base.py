"""Context extension: what can be done to a trained encoding so that the model serves longer sequences than it saw.

An extension is a function of a trained encoding and the length it shall serve. It works on a copy, never in place,
and shares the parameters. It says what it applies to and refuses the rest.

    longer = extended(model, "ntk", 2048)
    longer = extended(model, {"name": "window", "size": 128}, 2048)

One extension is one file here, built as `Scheme(shape, *, option, ...)`, and at least one YAML file in
configs/extension.
"""

import math
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
Made = dict[PositionEncoding, PositionEncoding]


class Extension:
    """Base of all extensions. A subclass says what it fits and overrides `apply`.

    fits(encoding)           whether `apply` can work on it
    apply(encoding, length)  the encoding to use for sequences of `length` tokens; a new object
    """

    applies_to = "every position encoding"  # in words, for the message of a refusal

    def __init__(self, shape: Shape):
        self.shape = shape
        self.name = type(self).__name__.lower()

    def under(self, plan: PositionPlan) -> None:
        """Told which position plan the model has, for what depends on that."""

    def fits(self, encoding: PositionEncoding) -> bool:
        return True

    def apply(self, encoding: PositionEncoding, length: int) -> PositionEncoding:
        raise NotImplementedError

    def extend(self, encoding: PositionEncoding, length: int, made: Made | None = None) -> PositionEncoding:
        """A copy of `encoding` for `length` tokens. In a composition the parts that fit are extended.

        made: what became of encodings that were met before; a part of several compositions stays one object.
        Raises ModelError if the encoding, or every part of it, is of another kind.
        """
        made = {} if made is None else made
        if encoding not in made:
            made[encoding] = self._extend(encoding, length, made)
        return made[encoding]

    def _extend(self, encoding: PositionEncoding, length: int, made: Made) -> PositionEncoding:
        if self.fits(encoding):
            return self.apply(encoding, length)
        if isinstance(encoding, Composition) and self.suits(encoding):
            parts = [self.extend(part, length, made) if self.suits(part) else part for part in encoding.members]
            elsewhere = [part for i, part in enumerate(parts) if str(i) not in encoding.parts]
            return Composition(encoding.shape, parts, elsewhere)
        raise self.refusal([encoding])

    def suits(self, encoding: PositionEncoding) -> bool:
        """Whether the encoding or a part of it fits."""
        if self.fits(encoding):
            return True
        return isinstance(encoding, Composition) and any(self.suits(part) for part in encoding.members)

    def extend_layers(self, encodings: list[PositionEncoding], length: int) -> list[PositionEncoding]:
        """The encoding of each layer, extended where it fits; layers that shared an encoding go on sharing one.

        Raises ModelError if it fits in no layer.
        """
        unique = list(dict.fromkeys(encodings))
        if not any(self.suits(encoding) for encoding in unique):
            raise self.refusal(unique)
        made: Made = {}
        return [self.extend(e, length, made) if self.suits(e) else e for e in encodings]

    def refusal(self, encodings: list[PositionEncoding]) -> ModelError:
        kinds = dict.fromkeys(kind(component) for encoding in encodings for component in encoding.components())
        return ModelError(
            f"extension={self.name} does not apply to {', '.join(kinds)}: it is for {self.applies_to}.\n"
            f"These do: {', '.join(fitting(self.shape, encodings))}"
        )

    def ratio(self, factor: float | None, length: int) -> float:
        """How many times longer than in training: the option `factor`, or from `length` where that is null."""
        return max(1.0, length / self.shape.train_length) if factor is None else factor


def longer(factor: float | None) -> float | None:
    """The option `factor`, checked. Raises ModelError unless it is null or a number from 1 up."""
    require(
        factor is None or (math.isfinite(factor) and factor >= 1),
        f"extension.factor={factor}: how many times longer than in training, 1 or more.\n"
        f"Try extension.factor=null: the length of the evaluation divided by that of the training",
    )
    return factor


@contextmanager
def as_extension() -> Iterator[None]:
    """Options that are handed on to an encoding are `extension.` options to whoever chose them."""
    try:
        yield
    except ModelError as error:
        raise ModelError(str(error).replace("pe.", "extension.")) from error


def kind(encoding: PositionEncoding) -> str:
    """The scheme behind an encoding: `kerple` for a Kerple."""
    return type(encoding).__module__.rpartition(".")[2]


def make(shape: Shape, extension: Part) -> Extension:
    """The extension that `extension` describes. Raises ModelError for unknown names and options that do not fit."""
    resolved = extensions.resolve(extension)
    made = extensions.create(shape, resolved)
    made.name = resolved["name"]
    return made


def fitting(shape: Shape, encodings: list[PositionEncoding]) -> list[str]:
    """Names of the extensions that apply to one of these encodings, as their YAML files have them."""
    return [name for name in extensions.names() if any(map(make(shape, name).suits, encodings))]


def extended(model: Any, extension: Part, length: int) -> Any:
    """`model` for sequences of `length` tokens: a copy that shares all weights and has other encodings.

    `none` returns the model itself. Raises ModelError naming the extension, the encoding and what it applies to.
    """
    resolved = extensions.resolve(extension)
    if resolved["scheme"] == "unchanged":
        return model
    layers = [model.encodings[which] for which in model.encoding_of_layer]
    network, change = clone(model), make(model.shape, resolved)
    change.under(model.plan)
    network.use_encodings(change.extend_layers(layers, length))
    draw(network.encodings, model.encodings)
    network.config = configured(model.config, resolved, length)
    return network


def draw(encodings: nn.Module, known: nn.Module) -> None:
    """Initialise the parameters that an extension added to those of `known`."""
    old = {id(parameter) for parameter in known.parameters()}
    for module in encodings.modules():
        own = next(module.parameters(recurse=False), None)
        if isinstance(module, PositionEncoding) and own is not None and not own.is_meta and id(own) not in old:
            module.reset(torch.Generator(own.device).manual_seed(0))


def configured(config: dict[str, Any], extension: dict[str, Any], length: int) -> dict[str, Any]:
    """The configuration that builds the extended model; one that was extended before becomes a chain."""
    if config.get("extension") is not None:
        parts, lengths = [config["extension"], extension], [config["extension_length"], length]
        trained = [config["train_length"], config.get("trained_length") or config["train_length"]]
        known = {"parts": parts, "lengths": lengths, "trained": trained}
        extension = {"name": "chain", "scheme": "chain", **known}
    return config | {"extension": extension, "extension_length": length}


def clone(module: Module) -> Module:
    """A copy of a module that shares parameters and submodules; what is set on it does not show in the original."""
    copy = module.__new__(type(module))
    copy.__dict__ = {k: v.copy() if isinstance(v, dict) else v for k, v in module.__dict__.items()}
    return copy
