import torch
from torch import Tensor

from ..errors import ModelError
from ..shape import Shape
from .base import PositionPlan, SequenceBatch


class Segments(PositionPlan):
    """BiPE's two ids per token (2401.16421): the position within the segment, and the index of the segment.

    A segment ends with a delimiter, which belongs to it: a full stop, a line break. The end of a document also ends it.

    delimiters: their token ids. They depend on the tokenizer, so null is refused when a model is built.
    longest: positions above it share the last one, which bounds a learned table; null is the training length.
    """

    ids = 2
    contiguous = False

    def __init__(self, shape: Shape, *, delimiters: list[int] | None, longest: int | None):
        super().__init__(shape)
        if not delimiters:
            raise ModelError(
                f"positions.delimiters={delimiters or 'null'}: their token ids depend on the tokenizer.\n"
                "With data.tokenizer=byte a line break and a full stop are 'positions.delimiters=[10,46]'"
            )
        self.delimiters = delimiters
        self.longest = shape.train_length if longest is None else longest
        if self.longest < 1:
            raise ModelError(f"positions.longest={longest}: expected 1 or more.\nTry positions.longest=64")

    def end(self, length: int, training: bool, which: int = 0) -> int:
        return min(length, self.longest) if which == 0 else length

    def positions(self, length: int, of: SequenceBatch) -> Tensor:
        tokens, documents = of.tokens, of.documents
        assert tokens is not None, "this plan needs the tokens"
        assert tokens.shape[1] == length
        starts = torch.zeros_like(tokens, dtype=torch.bool)
        starts[:, 1:] = torch.isin(tokens[:, :-1], torch.tensor(self.delimiters, device=of.device))
        if documents is not None:
            starts[:, 1:] |= documents[:, 1:] != documents[:, :-1]
        index = torch.arange(length, device=of.device)
        place = index - torch.where(starts, index, 0).cummax(dim=1).values
        return torch.stack([place.clamp(max=self.longest - 1), starts.cumsum(dim=1)], dim=-1)
