"""RMSNorm with its gradient written out: torch's values to the bit, the gradient of the formula."""

import pytest
import torch
from torch import Tensor, nn

from model.norm import RMSNorm

SHAPE = (3, 5, 16)


@pytest.fixture
def both() -> tuple[RMSNorm, nn.RMSNorm]:
    ours, theirs = RMSNorm(SHAPE[-1], eps=1e-3), nn.RMSNorm(SHAPE[-1], eps=1e-3)
    with torch.no_grad():
        theirs.weight.copy_(ours.weight.normal_(generator=torch.Generator().manual_seed(0)))
    return ours, theirs


def drawn(scale: float, seed: int = 1) -> Tensor:
    return scale * torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 1e4])  # 0: only epsilon is left
def test_values_and_gradients(both, scale: float):
    ours, theirs = both
    x, upstream = drawn(scale).requires_grad_(), drawn(1.0, seed=2)
    out = ours(x)
    assert type(out.grad_fn).__name__ == "_RMSNormBackward"
    assert torch.equal(out, theirs(x))
    out.backward(upstream)

    wide, weight = x.detach().double().requires_grad_(), ours.weight.detach().double().requires_grad_()
    (wide / (wide.square().mean(-1, keepdim=True) + 1e-3).sqrt() * weight).backward(upstream.double())
    for found, expected in ((x.grad, wide.grad), (ours.weight.grad, weight.grad)):
        size = expected.abs().max().clamp(min=1e-12)
        assert (found - expected).abs().max() / size < 1e-6


def test_what_it_is_not_written_for_goes_to_torch(both):
    ours, theirs = both
    x = drawn(1.0)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))
    halves = x.bfloat16().requires_grad_()
    out = ours.bfloat16()(halves)
    assert type(out.grad_fn).__name__ != "_RMSNormBackward"
    assert torch.equal(out, theirs.bfloat16()(halves))
