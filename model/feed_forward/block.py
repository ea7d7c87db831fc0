"""The feed-forward block: two linear layers and an activation between them."""

import torch.nn.functional as F
from torch import Tensor, nn

from ..config import ModelConfig
from ..shape import Shape


class MLP(nn.Module):
    """SwiGLU (2002.05202) or GELU (1606.08415), which GPT-2 and Bloom approximate with tanh."""

    def __init__(self, config: ModelConfig, shape: Shape):
        super().__init__()
        hidden = config.hidden_width
        self.gated, self.approximate = config.mlp == "swiglu", "tanh" if config.mlp == "gelu_tanh" else "none"
        self.up = nn.Linear(shape.width, 2 * hidden if self.gated else hidden, bias=config.bias)
        self.down = nn.Linear(hidden, shape.width, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        if not self.gated:
            return self.down(F.gelu(self.up(x), approximate=self.approximate))
        gate, value = self.up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * value)
