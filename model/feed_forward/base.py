"""The base of the feed-forward blocks: a linear layer up to the inner width, an activation, a linear layer down.

Shapes: x (..., D) -> (..., D); D width, F inner width.
"""

from torch import Tensor, nn


class FeedForward(nn.Module):
    """down(activation(up(x))).

    A block defines `activation`, alone in a file of its own, and has at least one YAML file in configs/feed_forward/.
    Options are keyword arguments of its constructor, after `width`, `inner_width` and `bias`.
    """

    up_factor = 1  # width of `up` in multiples of F; a gated block has 2

    def __init__(self, width: int, inner_width: int, bias: bool):
        super().__init__()
        self.up = nn.Linear(width, self.up_factor * inner_width, bias=bias)
        self.down = nn.Linear(inner_width, width, bias=bias)

    @staticmethod
    def default_width(width: int) -> int:
        """The inner width where model.ffn_width is null: about 8 D^2 parameters in a block."""
        return 4 * width

    def activation(self, x: Tensor) -> Tensor:
        """The output of `up` (..., up_factor * F) -> (..., F)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))
