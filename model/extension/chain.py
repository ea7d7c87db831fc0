from dataclasses import replace

from ..pe.base import PositionEncoding, require
from ..positions.base import PositionPlan
from ..registry import Part
from ..shape import Shape
from .base import Extension, Made, make


class Chain(Extension):
    """Several extensions in order, each on what the one before it made: ntk and logn, yarn and resonance.

    parts: names, or mappings with a name and options.
    lengths: the length that each part extends to; null is that of the evaluation for all.
    trained: the training length when each part was put on; null is the model's for all. They differ where a model was
    extended, trained on, and extended again.
    """

    def __init__(self, shape: Shape, *, parts: list[Part], lengths: list[int] | None, trained: list[int] | None):
        super().__init__(shape)
        require(bool(parts), "extension.parts=[]: a chain needs parts.\nTry extension.parts=[ntk,logn]")
        require(
            lengths is None or len(lengths) == len(parts),
            f"extension.lengths={lengths}: expected one for each of the {len(parts)} parts.\n"
            f"Try extension.lengths=null",
        )
        require(
            trained is None or len(trained) == len(parts),
            f"extension.trained={trained}: expected one for each of the {len(parts)} parts.\n"
            f"Try extension.trained=null",
        )
        shapes = [replace(shape, train_length=length) for length in trained or [shape.train_length] * len(parts)]
        self.parts = [make(each, part) for each, part in zip(shapes, parts, strict=True)]
        self.lengths = lengths

    def under(self, plan: PositionPlan) -> None:
        for part in self.parts:
            part.under(plan)

    def suits(self, encoding: PositionEncoding) -> bool:
        return self.parts[0].suits(encoding)

    def extend(self, encoding: PositionEncoding, length: int, made: Made | None = None) -> PositionEncoding:
        return self.extend_layers([encoding], length)[0]

    def extend_layers(self, encodings: list[PositionEncoding], length: int) -> list[PositionEncoding]:
        for part, own in zip(self.parts, self.lengths or [length] * len(self.parts), strict=True):
            encodings = part.extend_layers(encodings, own)
        return encodings
