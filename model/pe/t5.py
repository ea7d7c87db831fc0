import math

import torch
from torch import Tensor, nn

from ..shape import Shape
from .base import DistanceBias, require
from .window import keys


class T5(DistanceBias):
    """T5's relative bias (1910.10683): a learned number per head and bucket of distance, shared by the layers.

    The first half of the buckets are the distances 0, 1, 2, ...; the rest widen logarithmically up to `max_distance`,
    beyond which all share the last one. Drawn from N(0, 1/D).

    max_distance: tokens, or a share of the training length if below 1. null is the training length (at least
    `buckets`), so that every bucket is trained; T5 has 128 whatever the length, and with 128 > train.length the last
    buckets stay random. All that lies beyond it is served by the last bucket: the fewer distances of training that one
    has had, the sooner perplexity rises past the training length. At L = 512 T5's 128 is a quarter.
    """

    def __init__(self, shape: Shape, *, buckets: int, max_distance: int | float | None):
        super().__init__(shape)
        # A shorter training length leaves nothing for the wide buckets; they are then there and stay untrained.
        largest = keys(max_distance, shape, "pe.max_distance")
        max_distance = max(largest, buckets) if max_distance is None else largest
        require(buckets >= 2 and buckets % 2 == 0, f"pe.buckets={buckets}: expected an even number.\nTry pe.buckets=32")
        require(
            max_distance > buckets // 2,
            f"pe.max_distance={max_distance}: must exceed half of pe.buckets={buckets}, the exact distances.\n"
            f"Try pe.buckets={max(2, max_distance // 4 * 2)}",
        )
        self.buckets, self.max_distance = buckets, max_distance
        self.weight = nn.Parameter(torch.empty(buckets, shape.heads))

    def reset(self, generator: torch.Generator) -> None:
        nn.init.normal_(self.weight, 0, self.shape.width**-0.5, generator=generator)

    def bucket(self, n: int, device: torch.device | None = None) -> Tensor:
        """Bucket of the distances 0 ... n - 1, int64 (n,)."""
        distance = torch.arange(n, device=device)
        exact = self.buckets // 2
        # float32 on purpose, operation for operation what T5 computes: at exact powers the rounding decides the bucket.
        ratio = torch.log(distance.clamp(min=1).float() / exact) / math.log(self.max_distance / exact)
        wide = (exact + (ratio * (self.buckets - exact)).long()).clamp(max=self.buckets - 1)
        return torch.where(distance < exact, distance, wide)

    def table(self, n: int, device: torch.device | None = None) -> Tensor:
        return self.weight.float()[self.bucket(n, self.weight.device)].T
