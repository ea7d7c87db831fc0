"""The normalisations of the residual stream. Shapes: x (..., D), weight (D,)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import ModelConfig


def norm(config: ModelConfig, size: int) -> nn.Module:
    """RMSNorm (1910.07467), or LayerNorm (1607.06450) with a bias if `config.bias`; over the last dimension."""
    if config.norm == "layernorm":
        return nn.LayerNorm(size, eps=config.norm_eps, bias=config.bias)
    return RMSNorm(size, eps=config.norm_eps)


class RMSNorm(nn.RMSNorm):
    """torch's RMSNorm with a faster gradient on a CPU, where torch's is a chain of a dozen operations."""

    def forward(self, x: Tensor) -> Tensor:
        fast = x.device.type == "cpu" and x.dtype == self.weight.dtype == torch.float32
        if fast and self.eps is not None and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return _RMSNorm.apply(x, self.weight, self.eps)
        return super().forward(x)


class _RMSNorm(torch.autograd.Function):
    """x / rms(x) * weight in float32, bit for bit as torch computes it."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        inverse = (x.pow(2).mean(-1, keepdim=True) + eps).rsqrt()
        ctx.save_for_backward(x, weight, inverse)
        return F.rms_norm(x, weight.shape, weight, eps)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, inverse = ctx.saved_tensors
        n = x * inverse
        product = gradient * n
        d_weight = product.flatten(0, -2).sum(0)
        along = product.mul_(weight).mean(-1, keepdim=True)  # the component along n, which the norm removes
        d_x = (gradient * weight).sub_(n.mul_(along)).mul_(inverse)
        return d_x, d_weight, None
