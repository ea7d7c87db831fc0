"""FlexAttention against the dense kernel, for every encoding it serves. Uncompiled on a CPU, where it has no backward;
compiled, with gradients, where a GPU is."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_models import Gapped, Restarting, decoded, logits, longest, shared, tiny, tokens, values_and_gradients
from torch import Tensor

from model.attention import dispatch, flex
from model.attention.logits import LogitsSpec
from model.pe.registry import names
from model.transformer import Transformer

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
SERVED = 60  # of the named encodings, at least

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


def difference(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item()


def served(model: Transformer) -> bool:
    """True if flex supports every layer, by the specifications that the kernels receive."""
    supported = []

    def spy(spec: LogitsSpec, q: Tensor) -> str:
        supported.append(spec.supports_flex)
        return "dense"

    before, dispatch.choose = dispatch.choose, spy
    try:
        logits(model, tokens(1, 4))
    finally:
        dispatch.choose = before
    return all(supported)


def test_most_encodings_are_served() -> None:
    assert sum(served(shared(name)) for name in names()) >= SERVED


@pytest.mark.parametrize("name", names())
def test_values_are_those_of_the_oracle(name: str) -> None:
    model = shared(name)
    x = tokens(2, longest(model, 40))
    if not served(model):
        with pytest.raises(AssertionError, match="drop"):
            logits(model, x, kernel="flex")
        return
    assert difference(logits(model, x, kernel="flex"), logits(model, x, kernel="dense")) < 1e-5


@pytest.mark.parametrize("name", ["alibi", "t5", "rerope", "streaming", "gpt_oss", "chunk"])
def test_positions_that_are_not_indices_and_packed_documents(name: str) -> None:
    model, x = shared(name), tokens(2, 30)
    documents = (torch.arange(30) // torch.tensor([[7], [11]])).expand(2, 30)
    for how in ({"plan": Gapped()}, {"plan": Restarting(), "documents": documents}):
        assert difference(logits(model, x, kernel="flex", **how), logits(model, x, kernel="dense", **how)) < 1e-5


@pytest.mark.parametrize("name", ["alibi", "rerope"])
def test_fewer_queries_than_keys_are_the_last_ones(name: str) -> None:
    model, x = shared(name), tokens(2, 30)
    assert difference(decoded(model, x, [17, 25], kernel="flex"), logits(model, x, kernel="dense")) < 1e-5


def test_a_kernel_that_does_not_work_is_not_trusted() -> None:
    """On a CPU it has no backward."""
    dispatch.flex_passes_self_test.cache_clear()
    with pytest.warns(UserWarning, match="not used on cpu"):
        assert not dispatch.flex_passes_self_test(torch.device("cpu"))


@pytest.mark.parametrize(("hidden", "believed"), [(0, True), (1, False)])  # 1: one's own key too
def test_a_kernel_with_wrong_values_is_not_trusted(
    monkeypatch: pytest.MonkeyPatch, hidden: int, believed: bool
) -> None:
    def plain(
        q: Tensor, k: Tensor, v: Tensor, score_mod: Callable, block_mask: object, **options: object
    ) -> tuple[Tensor, Any]:
        index = torch.arange(q.shape[2])
        logits = score_mod(q @ k.mT * q.shape[3] ** -0.5, None, torch.arange(2)[:, None, None], index[:, None], index)
        seen = index[:, None] - index >= hidden
        logits = logits.where(seen, float("-inf"))
        return torch.softmax(logits, -1).nan_to_num() @ v, SimpleNamespace(lse=logits.logsumexp(-1))

    monkeypatch.setattr(flex, "_flex_attention", lambda compiled: plain)
    with torch.no_grad():  # as in an evaluation, which may be the first to ask
        assert (dispatch._flex_max_relative_error(torch.device("cpu")) < dispatch.FLEX_TOLERANCE) == believed
    assert (dispatch._flex_max_relative_error(torch.device("cpu")) < dispatch.FLEX_TOLERANCE) == believed


@gpu
def test_the_compiled_kernel_is_trusted() -> None:
    assert dispatch.flex_passes_self_test(torch.device("cuda", torch.cuda.current_device()))


@gpu
@pytest.mark.parametrize("name", [name for name in names() if served(shared(name))])
def test_compiled_values_and_gradients_on_a_gpu(name: str) -> None:
    model = tiny(name, width=64).cuda()  # heads of 16, the least that the compiled kernel takes
    x = tokens(2, longest(model, 160)).cuda()
    expected, known = values_and_gradients(model, x, kernel="dense")
    value, gradients = values_and_gradients(model, x, kernel="flex")
    assert difference(value, expected) < 1e-4
    for parameter, gradient in gradients.items():
        torch.testing.assert_close(gradient, known[parameter], rtol=1e-3, atol=1e-5, msg=parameter)
