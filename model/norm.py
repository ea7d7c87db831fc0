from torch import nn

from .config import ModelConfig


def norm(config: ModelConfig, size: int) -> nn.Module:
    """Over the last dimension: RMSNorm (1910.07467), or LayerNorm (1607.06450) with a bias if linear layers have."""
    if config.norm == "layernorm":
        return nn.LayerNorm(size, eps=config.norm_eps, bias=config.bias)
    return nn.RMSNorm(size, eps=config.norm_eps)
