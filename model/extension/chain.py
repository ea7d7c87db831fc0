from dataclasses import replace

from ..pe.base import PositionEncoding, require
from ..positions.base import PositionPlan
from ..registry import Part
from ..shape import Shape
from .base import Extension, Memo, make


class Chain(Extension):
    """Several extensions in order, each applied to the result of the one before: ntk and logn, yarn and resonance.

    parts: names, or mappings with a name and options.
    lengths: the length that each part extends to; null is that of the evaluation for all.
    trained: the training length at the time each part was applied; null is the model's for all. They differ if a model
    was extended, trained on, and extended again.
    """

    def __init__(self, shape: Shape, *, parts: list[Part], lengths: list[int] | None, trained: list[int] | None):
        super().__init__(shape)
        require(bool(parts), "extension.parts=[]: a chain needs parts.\nTry extension.parts=[ntk,logn]")
        for key, values in (("lengths", lengths), ("trained", trained)):
            require(
                values is None or len(values) == len(parts),
                f"extension.{key}={values}: expected one for each of the {len(parts)} parts.\nTry extension.{key}=null",
            )
        shapes = [replace(shape, train_length=length) for length in trained or [shape.train_length] * len(parts)]
        self.parts = [make(each, part) for each, part in zip(shapes, parts, strict=True)]
        self.lengths = lengths

    def bind_position_plan(self, plan: PositionPlan) -> None:
        for part in self.parts:
            part.bind_position_plan(plan)

    def applies_somewhere(self, encoding: PositionEncoding) -> bool:
        return self.parts[0].applies_somewhere(encoding)

    def extend(self, encoding: PositionEncoding, length: int, memo: Memo | None = None) -> PositionEncoding:
        return self.extend_layers([encoding], length)[0]

    def extend_layers(self, encodings: list[PositionEncoding], length: int) -> list[PositionEncoding]:
        for part, part_length in zip(self.parts, self.lengths or [length] * len(self.parts), strict=True):
            encodings = part.extend_layers(encodings, part_length)
        return encodings
