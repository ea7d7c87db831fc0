"""The normalisations of the residual stream."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import ModelConfig


def norm(config: ModelConfig, size: int) -> nn.Module:
    """Over the last dimension: RMSNorm (1910.07467), or LayerNorm (1607.06450) with a bias if linear layers have."""
    if config.norm == "layernorm":
        return nn.LayerNorm(size, eps=config.norm_eps, bias=config.bias)
    return RMSNorm(size, eps=config.norm_eps)


class RMSNorm(nn.RMSNorm):
    """torch's. On a CPU its gradient is a chain of a dozen operations, and takes twice as long as the one here."""

    def forward(self, x: Tensor) -> Tensor:
        plain = x.device.type == "cpu" and x.dtype == self.weight.dtype == torch.float32
        if plain and self.eps is not None and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return _RMSNorm.apply(x, self.weight, self.eps)
        return super().forward(x)


class _RMSNorm(torch.autograd.Function):
    """x (..., D), weight (D,), float32 -> x / rms(x) * weight, with the same bits as torch's."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        inverse = (x.pow(2).mean(-1, keepdim=True) + eps).rsqrt()
        ctx.save_for_backward(x, weight, inverse)
        return F.rms_norm(x, weight.shape, weight, eps)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, inverse = ctx.saved_tensors
        n = x * inverse
        both = gradient * n
        d_weight = both.flatten(0, -2).sum(0)
        along = both.mul_(weight).mean(-1, keepdim=True)  # how far the gradient points along n, which has no length
        d_x = (gradient * weight).sub_(n.mul_(along)).mul_(inverse)
        return d_x, d_weight, None
