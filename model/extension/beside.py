"""What the extensions share that put one more part beside an encoding of any kind."""

from ..pe.base import PositionEncoding
from ..pe.compose import Composition, composed
from .base import Extension, as_extension


class Beside(Extension):
    """The encoding composed with a part. A subclass says which in `part`."""

    def part(self) -> PositionEncoding:
        raise NotImplementedError

    def apply(self, encoding: PositionEncoding, length: int) -> PositionEncoding:
        with as_extension():
            return Composition(self.shape, [encoding, self.part()])

    def extend_layers(self, encodings: list[PositionEncoding], length: int) -> list[PositionEncoding]:
        with as_extension():
            if self.part().per_layer:
                return composed(self.shape, encodings, [self.part() for _ in encodings])
        return super().extend_layers(encodings, length)
