from typing import Any

from ..pe.base import PositionEncoding
from ..pe.common.regions import Regions
from ..pe.registry import schemes
from ..pe.rope import Rope
from ..shape import Shape
from .base import Extension, as_extension


class ReplaceRope(Extension):
    """Another scheme in place of the trained rotation; the weights stay.

    A region scheme (`rerope`, `self_extend`, ...) takes the trained rotation with its frequencies and re-maps its
    distances. Any other scheme stands alone: with `nope` it is DroPE (2512.12167), which loses the order of words until
    the model is trained on. The paper trains on at the training length, for a tenth of the tokens, and the result
    serves longer sequences: build(..., extension="drop") and fine-tune.

    part: the scheme, model/pe/<part>.py.  options: those of the scheme; `options_for_length` fills what is null.
    """

    def __init__(self, shape: Shape, *, part: str, **options: Any):
        super().__init__(shape)
        self.scheme, self.options = schemes.load(part), options
        self.scope = "rotary encodings (rope and its relatives)"
        if issubclass(self.scheme, Regions):
            self.scope = "encodings that do nothing but rotate (rope, p_rope, hope)"

    def applies_to(self, encoding: PositionEncoding) -> bool:
        if issubclass(self.scheme, Regions):
            return isinstance(encoding, Rope) and encoding.is_pure_rotation
        return isinstance(encoding, Rope | Regions)

    def apply(self, encoding: PositionEncoding, length: int) -> PositionEncoding:
        with as_extension():
            if not issubclass(self.scheme, Regions):
                return self.scheme(self.shape, **self.options)
            options = self.scheme.options_for_length(self.shape, self.options, length)
            return self.scheme(self.shape, rope=encoding, **options)
