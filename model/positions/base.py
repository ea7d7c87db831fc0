"""Position plans: which positions the tokens of a sequence are given. The encodings stay, the integers change."""

import torch
from torch import Tensor

from ..shape import Shape


class PositionPlan:
    """Token t is at position t. Other plans override `positions`."""

    contiguous = True  # positions are start, start + 1, ... for every sequence

    def __init__(self, shape: Shape):
        self.shape = shape

    def positions(
        self,
        batch: int,
        length: int,
        device: torch.device,
        training: bool = False,
        generator: torch.Generator | None = None,
        tokens: Tensor | None = None,
        documents: Tensor | None = None,
    ) -> Tensor:
        """Positions of the first `length` tokens of each sequence, (batch|1, length), increasing along a sequence.

        tokens and documents (batch, length) are there for plans that look at them. Randomness comes from `generator`
        alone, so a run and its evaluation can be repeated.
        """
        return torch.arange(length, device=device)[None]
