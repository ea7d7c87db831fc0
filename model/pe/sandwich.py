import torch
from torch import Tensor

from ..precision import exact_device
from ..shape import Shape
from .base import DistanceBias, distances, require


class Sandwich(DistanceBias):
    """Sandwich (2212.10356): the inner product of two sinusoidal codes as a bias, without parameters.

        (sum over c = 1 ... dims/2 of cos((i - j) / 10000^(2c / dims)) - dims/2) * H / (8h)     for head h = 1 ... H

    0 at distance 0, then an oscillating and roughly logarithmic decay. The sum starts at c = 1, as in the paper's
    formula and in NeMo. Starting at 0, as sinusoidal codes do, would add cos(i - j) and drop the slowest term.

    dims: size of the codes; 128 in the paper for every head dimension.
    """

    def __init__(self, shape: Shape, *, dims: int):
        super().__init__(shape)
        require(dims >= 2 and dims % 2 == 0, f"pe.dims={dims}: sines and cosines come in pairs.\nTry pe.dims=128")
        self.dims = dims

    def table(self, n: int, device: torch.device | None = None) -> Tensor:
        exact = exact_device(device)
        c = torch.arange(1, self.dims // 2 + 1, device=exact, dtype=torch.float64)
        angle = distances(n, exact).double()[:, None] * 10000 ** (-2 * c / self.dims)
        kernel = (angle.cos() - 1).sum(-1)
        head = torch.arange(1, self.shape.heads + 1, device=exact)
        return (kernel * (self.shape.heads / (8 * head))[:, None]).float().to(device)
