import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..shape import Shape
from .base import Block, PositionEncoding, TokenState, require


class Inkling(PositionEncoding):
    """Relative logits of the Inkling models (2026): a bias over distance computed from the query's token.

        bias_h(i, j) = r_h(x_i) P[:, i - j] for i - j < max_distance, else 0

    r_h is a linear map of the layer's input to `basis` numbers per head. P (basis, max_distance) is a set of curves
    over distance, drawn from N(0, 0.02^2), one set per layer. There is no paper; the formula is that of x-transformers'
    RelativeProjPositionalBias.

    max_distance: null is the training length, so that every column is trained; x-transformers has 1,024.
    """

    relative = True
    per_layer = True
    integer_positions = True

    def __init__(self, shape: Shape, *, basis: int, max_distance: int | None):
        super().__init__(shape)
        columns = shape.train_length if max_distance is None else max_distance
        require(basis >= 1, f"pe.basis={basis}: expected 1 or more.\nTry pe.basis=16")
        require(columns >= 1, f"pe.max_distance={max_distance}: expected 1 or more.\nTry pe.max_distance=null")
        self.weights = nn.Linear(shape.width, shape.heads * basis)
        self.bank = nn.Parameter(torch.empty(basis, columns))

    def reset(self, generator: torch.Generator) -> None:
        bound = self.shape.width**-0.5
        for parameter in self.weights.parameters():
            nn.init.uniform_(parameter, -bound, bound, generator=generator)
        nn.init.normal_(self.bank, 0, 0.02, generator=generator)

    def token_state(self, x: Tensor) -> TokenState:
        with torch.autocast(x.device.type, enabled=False):
            r = F.linear(x.float(), self.weights.weight.float(), self.weights.bias.float())
        return {"r": r.unflatten(-1, (self.shape.heads, -1))}  # (B, T, H, basis)

    def bias(self, block: Block) -> Tensor:
        with torch.autocast(self.bank.device.type, enabled=False):
            curves = block.content["r"][:, block.rows].transpose(1, 2) @ self.bank.float()  # (B, H, tq, columns)
        return block.gather_by_distance(F.pad(curves, (0, 1)))  # longer distances read the column of zeros
