import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..shape import Shape
from .base import Block, Context, PositionEncoding, TokenState, require
from .common.running import running_sum


class Fox(PositionEncoding):
    """Forgetting attention (FoX, 2503.02130): a bias like ALiBi's whose slope depends on each token.

        bias_h(i, j) = sum over l = j+1 ... i of ln f_h(x_l) = c_i - c_j,     z = w_h x_l + b_h

    gate: `sigmoid`, f = sigmoid(z), is FoX. `softplus`, ln f = -softplus(z), is the first released version of CABLE
    (2503.08067). Since -softplus(z) = ln sigmoid(-z), the two differ by the sign of z. (The released CABLE does not
    scale q k by 1/sqrt(d), which looks like a slip; here it is scaled.)
    keep: initial value of f, through b; 0.5 is the papers' b = 0, x-transformers starts at sigmoid(5) = 0.993.

    No other encoding is needed. FoX's own blocks also have normalised queries and keys, output gates and more.
    """

    relative = True
    per_layer = True

    def __init__(self, shape: Shape, *, gate: Literal["sigmoid", "softplus"], keep: float):
        super().__init__(shape)
        require(0 < keep < 1, f"pe.keep={keep}: a gate is open between 0 and 1.\nTry pe.keep=0.5")
        self.gate, self.keep = gate, keep
        self.linear = nn.Linear(shape.width, shape.heads)

    def reset(self, generator: torch.Generator) -> None:
        nn.init.normal_(self.linear.weight, 0, 0.02, generator=generator)
        z = math.log(self.keep / (1 - self.keep))
        nn.init.constant_(self.linear.bias, z if self.gate == "sigmoid" else -z)

    def token_state(self, x: Tensor) -> TokenState:
        with torch.autocast(x.device.type, enabled=False):
            z = F.linear(x.float(), self.linear.weight.float(), self.linear.bias.float())
        return {"log_forget": F.logsigmoid(z) if self.gate == "sigmoid" else -F.softplus(z)}  # (B, T, H)

    def content_features(self, state: TokenState, context: Context) -> Tensor:
        """c, float64 (B, H, T)."""
        return running_sum(state["log_forget"], context).transpose(1, 2)

    def bias(self, block: Block) -> Tensor:
        c = block.content
        return (c[..., block.rows, None] - c[..., None, block.columns]).float().to(block.query_positions.device)
