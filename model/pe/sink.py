import torch
from torch import Tensor, nn

from ..shape import Shape
from .base import PositionEncoding


class Sink(PositionEncoding):
    """Learned attention sinks (gpt-oss, 2508.10925): one more logit z_h in each softmax, for a key without a value.

        p_ij = exp(s_ij) / (exp(z_h) + sum_k exp(s_ik))

    A head can then attend to nothing. Without it the excess weight goes to the first token, as StreamingLLM
    (2309.17453) finds. One number per head and layer, from N(0, 0.02^2). It does not encode positions and is used as a
    part.
    """

    relative = True
    per_layer = True

    def __init__(self, shape: Shape):
        super().__init__(shape)
        self.logit = nn.Parameter(torch.empty(shape.heads))

    def reset(self, generator: torch.Generator) -> None:
        nn.init.normal_(self.logit, 0, 0.02, generator=generator)

    def sink(self) -> Tensor:
        return self.logit
