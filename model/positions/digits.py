import torch
from torch import Tensor

from ..errors import ModelError
from ..shape import Shape
from .base import PositionPlan, Sequences


class Digits(PositionPlan):
    """Abacus (2405.17399), two ids a token: its place in the number it is a digit of, and its position in the text.

    Places count 1, 2, 3, ... from a number's first digit, 0 for what is no digit. So digits of the same significance
    share a code where numbers begin with their ones. In training all places of a sequence are moved on by the same
    draw from 0, ..., shift: then longer numbers have places that training has shown.

    A level reads the first: pe=level with part=learned is Abacus alone, pe=bipe has rotary positions besides.

    digits: token ids. Which ids these are only the tokenizer knows, so null is refused when a model is built.
    shift: null is the training length minus 1; 0 is no draw.  Places from the training length on share the last.
    """

    ids = 2
    contiguous = False

    def __init__(self, shape: Shape, *, digits: list[int] | None, shift: int | None):
        super().__init__(shape)
        if not digits:
            raise ModelError(
                f"positions.digits={digits or 'null'}: which tokens are digits is for the tokenizer to know.\n"
                "In tasks they are 'positions.digits=[1,2,3,4,5,6,7,8,9,10]'; in bytes they begin with 48"
            )
        self.digits, self.longest = digits, shape.train_length
        self.shift = shape.train_length - 1 if shift is None else shift
        if self.shift < 0:
            raise ModelError(f"positions.shift={shift}: places are moved on by 0 or more.\nTry positions.shift=100")

    def end(self, length: int, training: bool, which: int = 0) -> int:
        return min(length + 1 + self.shift * training, self.longest) if which == 0 else length

    def positions(self, length: int, of: Sequences) -> Tensor:
        tokens, documents = of.tokens, of.documents
        assert tokens is not None, "digits are found in the tokens"
        digit = torch.isin(tokens, torch.tensor(self.digits, device=of.device))
        outside = ~digit
        if documents is not None:  # a document that begins with a digit begins a number
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
