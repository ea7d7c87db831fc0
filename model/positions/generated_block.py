import torch
from torch import Tensor

from .base import Drawn


class GeneratedBlock(Drawn):
    """ChatGLM-6B's two ids a token (2210.02414): (t, 0) in the prompt; what is generated stays at the prompt's last
    position and counts in the second id, 1, 2, 3, ...

    In training each sequence is cut at random into a prompt of 1 to T tokens and the rest. In evaluation all is prompt.
    """

    ids = 2

    def draw(self, batch: int, length: int, generator: torch.Generator) -> Tensor:
        device = generator.device
        prompt = torch.randint(1, length + 1, (batch, 1), generator=generator, device=device)
        index = torch.arange(length, device=device).expand(batch, -1)
        return torch.stack([index.minimum(prompt - 1), (index - prompt + 1).clamp(min=0)], dim=-1)
