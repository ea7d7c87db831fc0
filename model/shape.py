from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """What a plug-in's constructor may know of the model it is built for."""

    width: int
    heads: int
    kv_heads: int
    head_dim: int
    layers: int
    train_length: int
