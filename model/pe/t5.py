import math

import torch
from torch import Tensor, nn

from ..shape import Shape
from .base import DistanceBias, require
from .window import keys


class T5(DistanceBias):
    """T5's relative bias (1910.10683): a learned number per head and bucket of distances, shared by the layers.

    The first half of the buckets are the distances 0, 1, 2, ...; the others widen logarithmically up to `max_distance`,
    beyond which all distances share the last one. Drawn from N(0, 1/D).

    max_distance: tokens, or a share of the training length if below 1. null is the training length (at least
    `buckets`), so that every bucket is trained. T5 has 128 for every length; if that exceeds the training length, the
    last buckets stay random. The last bucket serves all longer distances: the fewer distances of training it has had,
    the sooner perplexity rises past the training length. At L = 512 T5's 128 is a quarter.
    """

    def __init__(self, shape: Shape, *, buckets: int, max_distance: int | float | None):
        super().__init__(shape)
        # With a training length below `buckets` the wide buckets exist and stay untrained.
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
        # In float32 and in T5's order of operations: at exact powers the rounding decides the bucket.
        ratio = torch.log(distance.clamp(min=1).float() / exact) / math.log(self.max_distance / exact)
        wide = (exact + (ratio * (self.buckets - exact)).long()).clamp(max=self.buckets - 1)
        return torch.where(distance < exact, distance, wide)

    def table(self, n: int, device: torch.device | None = None) -> Tensor:
        return self.weight.float()[self.bucket(n, self.weight.device)].T
