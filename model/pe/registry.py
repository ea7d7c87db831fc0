"""The position encodings that can be selected with `pe=NAME`. Torch-free until one is built."""

from typing import TYPE_CHECKING

from ..registry import Part, Registry, arguments
from ..shape import Shape

if TYPE_CHECKING:
    from .base import PositionEncoding

schemes = Registry("pe", "position encoding")
names, options, resolve = schemes.names, schemes.options, schemes.resolve


def encodings_for(shape: Shape, pe: Part) -> "list[PositionEncoding]":
    """The encoding of each layer of a model of this shape."""
    resolved = schemes.resolve(pe)
    return schemes.load(resolved["scheme"]).for_layers(shape, arguments(resolved))
