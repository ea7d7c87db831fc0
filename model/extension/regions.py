"""What the extensions share that put a region scheme over a rotary encoding."""

from ..pe.base import PositionEncoding
from ..pe.common.regions import Regions
from ..pe.rope import Rope
from .base import Extension, as_extension


class OverRope(Extension):
    """Distances are mapped by region, frequencies and weights stay. A subclass says which scheme in `regions`."""

    applies_to = "encodings that do nothing but rotate (rope, p_rope, hope)"

    def regions(self, rope: Rope, length: int) -> Regions:
        raise NotImplementedError

    def fits(self, encoding: PositionEncoding) -> bool:
        return isinstance(encoding, Rope) and encoding.plain

    def apply(self, encoding: Rope, length: int) -> Regions:
        with as_extension():
            return self.regions(encoding, length)
