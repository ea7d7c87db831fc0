"""The KV cache: keys, values and per-token state of every layer, and the position ids they were computed with."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class LayerCache:
    """Tensors (B, T, ...) of one layer: "k", "v" and the encoding's `token_state`.

    Keys are stored raw and mapped when they are used, which is exact for every encoding. Only the keys of an encoding
    with `cacheable_keys` are stored mapped, so that no step maps them again.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)

    def append(self, new: dict[str, Tensor]) -> dict[str, Tensor]:
        """Append tokens along dimension 1 and return the tensors of all tokens."""
        for name, tensor in new.items():
            old = self.tensors.get(name)
            self.tensors[name] = tensor if old is None else torch.cat([old, tensor], dim=1)
        return self.tensors


@dataclass
class KVCache:
    layers: list[LayerCache]
    length: int = 0
    tokens: Tensor | None = None  # (B, length), for position plans that read the tokens
    capacity: int | None = None  # final number of tokens, required by plans that draw all position ids at once
    positions: Tensor | None = None  # (B|1, capacity) position ids drawn at once
