"""What the extensions share that put one more part beside an encoding of any kind."""

from ..pe.base import PositionEncoding
from .base import Extension, as_extension, compose


class Beside(Extension):
    """The encoding composed with a part. A subclass says which in `part`."""

    def part(self) -> PositionEncoding:
        raise NotImplementedError

    def apply(self, encoding: PositionEncoding, length: int) -> PositionEncoding:
        with as_extension():
            return compose(self.shape, [encoding, self.part()])

    def extend_layers(self, encodings: list[PositionEncoding], length: int) -> list[PositionEncoding]:
        with as_extension():
            per_layer = self.part().per_layer
        if not per_layer:
            return super().extend_layers(encodings, length)
        return [self.apply(encoding, length) for encoding in encodings]
