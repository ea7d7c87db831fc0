from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """The sizes of the model that the constructor of a plug-in may depend on."""

    width: int
    heads: int
    kv_heads: int
    head_dim: int
    layers: int
    train_length: int
