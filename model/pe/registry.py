"""The position encodings that can be selected with `pe=NAME`. Torch-free until one is built."""

from typing import TYPE_CHECKING

from ..registry import Options, Part, Registry, arguments
from ..shape import Shape

if TYPE_CHECKING:
    from .base import PositionEncoding

schemes = Registry("pe", "position encoding")
names, options, resolve = schemes.names, schemes.options, schemes.resolve


def encodings_for(shape: Shape, pe: Part) -> "list[PositionEncoding]":
    """The encoding of each layer of a model of this shape."""
    return build_encodings(shape, schemes.resolve(pe))


def build_encodings(shape: Shape, resolved: Options) -> "list[PositionEncoding]":
    """`encodings_for` of a resolved configuration, which is not checked again."""
    return schemes.load(resolved["scheme"]).for_layers(shape, arguments(resolved))
