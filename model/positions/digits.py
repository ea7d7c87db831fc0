import torch
from torch import Tensor

from ..errors import ModelError
from ..shape import Shape
from .base import PositionPlan, SequenceBatch


class Digits(PositionPlan):
    """Abacus (2405.17399), two ids per token: the place of a digit within its number, and the position in the text.

    Places count 1, 2, 3, ... from the first digit of a number; tokens that are no digits have 0. So digits of the same
    significance share a code if numbers are written with the ones first. In training the places of a sequence are
    shifted by one draw from 0, ..., shift, so that training includes the places of longer numbers.

    `level` reads the first id: pe=level with part=learned is Abacus alone, pe=bipe adds rotary positions.

    digits: token ids of the digits. They depend on the tokenizer, so null is refused when a model is built.
    shift: null is the training length minus 1; 0 is no shift.  Places from the training length on share the last code.
    """

    ids = 2
    contiguous = False

    def __init__(self, shape: Shape, *, digits: list[int] | None, shift: int | None):
        super().__init__(shape)
        if not digits:
            raise ModelError(
                f"positions.digits={digits or 'null'}: their token ids depend on the tokenizer.\n"
                "In tasks they are 'positions.digits=[1,2,3,4,5,6,7,8,9,10]'; in bytes they begin with 48"
            )
        self.digits, self.longest = digits, shape.train_length
        self.shift = shape.train_length - 1 if shift is None else shift
        if self.shift < 0:
            raise ModelError(f"positions.shift={shift}: places are shifted by 0 or more.\nTry positions.shift=100")

    def end(self, length: int, training: bool, which: int = 0) -> int:
        return min(length + 1 + self.shift * training, self.longest) if which == 0 else length

    def positions(self, length: int, of: SequenceBatch) -> Tensor:
        tokens, documents = of.tokens, of.documents
        assert tokens is not None, "this plan needs the tokens"
        digit = torch.isin(tokens, torch.tensor(self.digits, device=of.device))
        outside = ~digit
        if documents is not None:  # a digit at the start of a document starts a number
            outside[:, :-1] |= documents[:, 1:] != documents[:, :-1]
        index = torch.arange(1, length + 1, device=of.device)
        before = torch.where(outside, index, 0).roll(1, 1)
        before[:, 0] = 0
        place = index - before.cummax(dim=1).values
        if of.training and self.shift:
            generator = torch.default_generator if of.generator is None else of.generator
            drawn = torch.randint(self.shift + 1, (len(tokens), 1), generator=generator, device=generator.device)
            place = place + drawn.to(of.device)
        place = torch.where(digit, place, 0).clamp(max=self.longest - 1)
        return torch.stack([place, index.expand_as(place) - 1], dim=-1)
