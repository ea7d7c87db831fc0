from typing import Any

from torch import Tensor

from ..precision import exact
from ..shape import Shape
from .base import Context, PositionEncoding, TokenState, require


class Temperature(PositionEncoding):
    """Llama 4's attention temperature: logits times 1 + slope * ln(1 + floor((i + 1) / step)).

    Nothing changes in the first step - 1 tokens. Meant for the layers of a hybrid without positions, which attend to
    distant tokens.

    step: number of tokens with the same temperature. 8,192 in Llama 4; null is the training length.
    """

    def __init__(self, shape: Shape, *, step: int | None, slope: float):
        super().__init__(shape)
        self.step, self.slope = shape.train_length if step is None else step, slope
        require(self.step >= 1, f"pe.step={step}: tokens between two temperatures, 1 or more.\nTry pe.step=null")
        require(slope >= 0, f"pe.slope={slope}: attention would become flatter with length.\nTry pe.slope=0.1")

    def prepare(self, context: Context) -> Tensor:
        steps = ((exact(context.query_positions) + 1) / self.step).floor().clamp(min=0)  # some plans begin below 0
        factor = (1 + self.slope * steps.log1p()).float().to(context.positions.device)
        return factor[:, None, :, None]  # (B|1, 1, Tq, 1)

    def map_q(self, q: Tensor, context: Context, prepared: Any, state: TokenState) -> Tensor:
        return (q * prepared).to(q.dtype)
