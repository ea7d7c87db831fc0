from ..pe.base import PositionEncoding
from ..pe.common.regions import Regions
from ..pe.nope import Nope
from ..pe.rope import Rope
from .base import Extension


class Drop(Extension):
    """DroPE (2512.12167): a model trained with rotary positions goes on without any.

    Untuned it loses the order of words. The paper trains on after the change, at the training length and for a
    tenth of the tokens, and the result then serves longer sequences: build(..., extension="drop") and fine-tune.
    """

    applies_to = "rotary encodings (rope and its relatives)"

    def fits(self, encoding: PositionEncoding) -> bool:
        return isinstance(encoding, Rope | Regions)

    def apply(self, encoding: PositionEncoding, length: int) -> PositionEncoding:
        return Nope(self.shape)
