"""The initial weights of a model, drawn from a seed."""

import hashlib

import torch
from torch import Tensor, nn

from .pe.base import PositionEncoding
from .transformer import Transformer


@torch.no_grad()
def initialise(model: Transformer, seed: int) -> None:
    """Draw every parameter. The table:

    embedding.weight            N(0, 0.02^2); also the output layer when tied
    head.weight                 N(0, 1 / D)
    attention.qkv, mlp.up       N(0, 1 / fan_in)
    attention.out, mlp.down     N(0, 1 / (2 * layers * fan_in)): the residual stream's variance stays near 1
    norms                       1
    biases                      0, those of LayerNorm too
    encodings                   each scheme's own `reset`

    Each draw has its own generator, seeded with (seed, name). With one seed all schemes therefore start from the same
    weights wherever shapes coincide, however many parameters an encoding adds. On the meta device nothing is drawn.
    """
    if model.embedding.weight.is_meta:
        return
    residual = (2 * len(model.layers)) ** -0.5
    for name, module in model.named_modules():
        if name.startswith("encodings"):
            continue
        bias = getattr(module, "bias", None)
        if isinstance(bias, Tensor):
            bias.zero_()
        if isinstance(module, nn.RMSNorm | nn.LayerNorm):
            module.weight.fill_(1)
        elif isinstance(module, nn.Embedding):
            module.weight.normal_(0, 0.02, generator=generator_for(seed, name, module.weight.device))
        elif isinstance(module, nn.Linear):
            std = module.in_features**-0.5 * (residual if name.endswith((".out", ".down")) else 1.0)
            module.weight.normal_(0, std, generator=generator_for(seed, name, module.weight.device))
    for name, module in model.encodings.named_modules():
        if isinstance(module, PositionEncoding) and any(True for _ in module.parameters()):
            module.reset(generator_for(seed, f"encodings.{name}", next(module.parameters()).device))


def generator_for(seed: int, name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator whose state depends on the seed and the name only."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=7).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest))
