"""The fused cross-entropy against torch's, and the promise that the logits are never all in memory."""

import math

import pytest
import torch
import torch.nn.functional as F
from tiny_models import TRAIN_LENGTH, tiny, tokens
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from model import build
from model import loss as fused
from model.loss import mean_nll, token_nll
from model.transformer import UNSCORED

N, D, V = 200, 16, 50


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 tokens a block, so that 200 are three blocks and a rest."""
    for block in ("EVALUATION", "TRAINING"):
        monkeypatch.setattr(fused, block, (1, 64))


def example(dtype: torch.dtype = torch.float32, size: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(N, D, generator=draw).to(dtype).requires_grad_()
    weight = (size * torch.randn(V, D, generator=draw)).to(dtype).requires_grad_()
    return hidden, weight, torch.randint(V, (N,), generator=draw)


@pytest.mark.parametrize("size", [1.0, 300.0], ids=["usual", "logits-of-thousands"])
@pytest.mark.parametrize("upstream", [1.0, -2.5])
def test_equals_cross_entropy_in_values_and_gradients(size: float, upstream: float) -> None:
    hidden, weight, targets = example(size=size)
    expected = F.cross_entropy(hidden @ weight.T, targets)
    wanted = torch.autograd.grad(upstream * expected, (hidden, weight))
    loss = mean_nll(hidden, weight, targets)
    torch.testing.assert_close(loss, expected, atol=1e-6, rtol=1e-5)
    got = torch.autograd.grad(upstream * loss, (hidden, weight))
    torch.testing.assert_close(got, wanted, atol=1e-6 * size, rtol=1e-4)


def test_equals_cross_entropy_written_out() -> None:
    hidden, weight, targets = (x.detach().tolist() for x in example())
    total, each = 0.0, []
    for h, t in zip(hidden, targets, strict=True):
        scores = [sum(a * b for a, b in zip(h, row, strict=True)) for row in weight]
        each.append(math.log(sum(map(math.exp, scores))) - scores[t])
        total += each[-1]
    assert mean_nll(*example()).item() == pytest.approx(total / N, abs=1e-5)
    assert token_nll(*example()).tolist() == pytest.approx(each, abs=1e-5)


def test_mixed_precision_is_as_good_as_torchs() -> None:
    """Both are compared with float32: rounding is allowed, another amount of it is not."""
    hidden, weight, targets = example()
    exact = F.cross_entropy(hidden @ weight.T, targets)
    truth = torch.autograd.grad(exact, (hidden, weight))
    with torch.autocast("cpu", torch.bfloat16):
        plain = F.cross_entropy(F.linear(hidden, weight).float(), targets)
        loss = mean_nll(hidden, weight, targets)
        each = token_nll(hidden, weight, targets)
    assert loss.dtype == each.dtype == torch.float32
    assert abs(loss - exact) <= 2 * abs(plain - exact) + 1e-3
    assert abs(each.mean() - exact) <= 2 * abs(plain - exact) + 1e-3
    usual, got = (torch.autograd.grad(x, (hidden, weight)) for x in (plain, loss))
    for name, a, b, t in zip(("hidden", "weight"), got, usual, truth, strict=True):
        assert a.dtype == torch.float32
        assert (a - t).norm() <= 1.5 * (b - t).norm(), name
        assert (a - t).norm() < 0.01 * t.norm(), name


def test_bfloat16_weights_have_bfloat16_gradients() -> None:
    hidden, weight, targets = example(torch.bfloat16)
    loss = mean_nll(hidden, weight, targets)
    exact = [x.detach().float().requires_grad_() for x in (hidden, weight)]
    expected = F.cross_entropy(exact[0] @ exact[1].T, targets)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), abs=0.01)
    truth = torch.autograd.grad(expected, exact)
    for a, t in zip(torch.autograd.grad(loss, (hidden, weight)), truth, strict=True):
        assert a.dtype == torch.bfloat16
        assert (a.float() - t).norm() < 0.01 * t.norm()


@pytest.mark.parametrize("tie", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("hidden_targets", [0.0, 0.4, 1.0], ids=["all-scored", "some-scored", "none-scored"])
def test_the_models_loss_is_that_of_its_logits(tie: bool, hidden_targets: float) -> None:
    model, x = tiny("rope", tie=tie), tokens(4, TRAIN_LENGTH)
    targets = x.roll(-1, 1)
    targets[torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) < hidden_targets] = UNSCORED
    parameters = list(model.parameters())
    loss, each = model.loss(x, targets), model.nll(x, targets)
    got = torch.autograd.grad(loss, parameters)
    if hidden_targets == 1:  # torch's is 0/0 here; a batch with nothing to learn must not poison the weights
        assert loss == 0
        assert each.shape == (0,)
        assert all((g == 0).all() for g in got)
        return
    every = F.cross_entropy(model(x).flatten(0, 1), targets.flatten(), reduction="none")
    expected = every[targets.flatten() != UNSCORED]
    assert loss.item() == pytest.approx(expected.mean().item(), abs=1e-6)
    torch.testing.assert_close(each, expected.detach(), atol=1e-5, rtol=0)
    assert not each.requires_grad
    wanted = torch.autograd.grad(expected.mean(), parameters)
    torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-4)


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return out


@pytest.mark.parametrize("autocast", [False, True])
def test_never_holds_all_the_logits(autocast: bool) -> None:
    rows, count, vocabulary = 64, 640, 1024
    hidden = torch.randn(count, D, requires_grad=True)
    weight = torch.randn(vocabulary, D, requires_grad=True)
    targets = torch.randint(vocabulary, (count,))
    with Largest() as seen, torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = mean_nll(hidden, weight, targets)
        kept = sum(tensor.numel() for tensor in loss.grad_fn.saved_tensors)
        loss.backward()
        token_nll(hidden, weight, targets)
    assert seen.elements == rows * vocabulary  # of 640 * 1024
    assert kept == hidden.numel() + weight.numel()
    with Largest() as seen:  # the probe would have noticed
        F.cross_entropy(hidden @ weight.T, targets)
    assert seen.elements == count * vocabulary


def test_the_models_loss_never_holds_all_the_logits() -> None:
    vocabulary, x = 4096, tokens(8, TRAIN_LENGTH)
    model = build(vocabulary, TRAIN_LENGTH, {"layers": 1, "width": 32, "heads": 4}, "alibi")
    with Largest() as seen:
        model.loss(x, x).backward()
        model.nll(x, x)
    assert seen.elements == 64 * vocabulary  # of 256 * 4096
