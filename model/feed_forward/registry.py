"""The feed-forward blocks that can be selected with `model.mlp=NAME`. Torch-free until one is built."""

from typing import TYPE_CHECKING

from ..registry import Registry, arguments

if TYPE_CHECKING:
    from .base import FeedForward

blocks = Registry("feed_forward", "feed-forward block")


def create(name: str, width: int, inner_width: int, bias: bool) -> "FeedForward":
    """The block of configs/feed_forward/<name>.yaml for inputs (..., width)."""
    resolved = blocks.resolve(name)
    return blocks.load(resolved["scheme"])(width, inner_width, bias, **arguments(resolved))


def default_width(name: str, width: int) -> int:
    """The inner width that a block chooses for inputs (..., width). Imports torch."""
    return blocks.load(blocks.resolve(name)["scheme"]).default_width(width)
