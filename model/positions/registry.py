"""The position plans that can be selected with `positions=NAME`. Torch-free."""

from ..registry import Registry

plans = Registry("positions", "position plan")
