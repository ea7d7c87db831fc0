import torch
from torch import Tensor

from .base import RandomPlan


class GeneratedBlock(RandomPlan):
    """Two ids per token as in ChatGLM-6B (2210.02414): (t, 0) in the prompt, then (last of the prompt, 1, 2, 3, ...).

    The first id of generated tokens stays at the last position of the prompt, and the second counts them. In training
    each sequence is cut at random into a prompt of 1 to T tokens and the rest. In evaluation everything is prompt.
    """

    ids = 2

    def draw(self, batch: int, length: int, generator: torch.Generator) -> Tensor:
        device = generator.device
        prompt = torch.randint(1, length + 1, (batch, 1), generator=generator, device=device)
        index = torch.arange(length, device=device).expand(batch, -1)
        return torch.stack([index.minimum(prompt - 1), (index - prompt + 1).clamp(min=0)], dim=-1)
