"""A compiled training step is one graph, for every scheme and every position plan, and loses what eager mode does."""

import pytest
import torch
from tiny_models import TRAIN_LENGTH, VOCABULARY, tokens

from model import build
from model.attention import dispatch
from model.errors import ModelError
from model.pe.registry import names
from model.transformer import UNSCORED, Transformer

PLANS = ("packed", "pose", "random_float", "randomised", "shape_shift", "cape")


@pytest.fixture(autouse=True)
def from_scratch():
    """All models share one code object, of which the compiler keeps a few versions only."""
    torch._dynamo.reset()


def small(pe: str | dict, **options) -> Transformer:
    """In training mode, of as few layers as the scheme can do with."""
    shape = {"layers": 1, "width": 16, "heads": 2}
    try:
        return build(VOCABULARY, TRAIN_LENGTH, shape, pe, **options).train()
    except ModelError:  # hybrids work in fours
        return build(VOCABULARY, TRAIN_LENGTH, shape | {"layers": 4}, pe, **options).train()


def losses(model: Transformer, targets: torch.Tensor, **options) -> tuple[torch.Tensor, torch.Tensor]:
    """Eager and compiled, both with the same draws. A break in the graph is an error."""
    inputs = tokens(2, TRAIN_LENGTH + 1)[:, :-1]

    def loss() -> torch.Tensor:
        return model(inputs, targets, generator=torch.Generator().manual_seed(0))

    eager = loss()
    model.compile(fullgraph=True, **options)
    return eager, loss()


def kinds() -> list[str]:
    """One encoding for each list of classes in the layers: the graph does not depend on the values of options."""
    firsts: dict[tuple, str] = {}
    for name in names():
        encodings = small(name).encodings
        firsts.setdefault(tuple(tuple(map(type, encoding.modules())) for encoding in encodings), name)
    return list(firsts.values())


@pytest.mark.parametrize("name", kinds())
def test_a_training_step_is_one_graph(name: str):
    torch.testing.assert_close(*losses(small(name), tokens(2, TRAIN_LENGTH + 1)[:, 1:], backend="eager"))


@pytest.mark.parametrize("plan", PLANS)
def test_position_plans_stay_outside_of_the_graph(plan: str):
    model = small("nope" if plan == "cape" else "rope", positions=plan)
    torch.testing.assert_close(*losses(model, tokens(2, TRAIN_LENGTH + 1)[:, 1:], backend="eager"))


@pytest.mark.parametrize("pe", ["rope", "t5", "fox", "gpt_oss"])
def test_gradients_are_those_of_eager_mode(pe: str):
    """Also of learned tables and sinks, and where some targets are not scored, which a graph cannot look for. The
    backward pass goes through the same decompositions as in the real compiler, which is slow."""
    targets = tokens(2, TRAIN_LENGTH + 1)[:, 1:].clone()
    targets[0, : TRAIN_LENGTH // 2] = UNSCORED
    model = small(pe)
    pairs = [torch.autograd.grad(loss, [*model.parameters()]) for loss in losses(model, targets, backend="aot_eager")]
    for name, one, two in zip(dict(model.named_parameters()), *pairs, strict=True):
        torch.testing.assert_close(one, two, msg=lambda text, name=name: f"{name}: {text}")


def test_one_model_after_the_other():
    """Both go through one compiled function; what was a number in the first is not built into it for good."""
    for gain in (0.3, 0.9):
        for base in (100.0, 10000.0):
            model = small({"name": "fope", "gain": gain, "base": base})
            torch.testing.assert_close(*losses(model, tokens(2, TRAIN_LENGTH + 1)[:, 1:], backend="eager"))


@pytest.mark.parametrize("pe", ["alibi", "gpt_oss", "rerope"])
@pytest.mark.filterwarnings("ignore")  # that flex_attention runs uncompiled here
@torch.no_grad()  # torch has no backward of it on a CPU
def test_flex_attention_is_in_the_graph(pe: str):
    """With its masks, which the layers share, windows, sinks and regions."""
    model = small(pe)
    model.kernel = "flex"
    torch.testing.assert_close(*losses(model, tokens(2, TRAIN_LENGTH + 1)[:, 1:], backend="eager"))


def test_a_graph_takes_the_answer_about_the_kernel_as_given(monkeypatch: pytest.MonkeyPatch):
    """The check behind it takes gradients of tensors of its own, which cannot be traced."""
    asked = []
    monkeypatch.setattr(dispatch, "flex_passes_self_test", lambda device: not asked.append(device))

    dispatch.prepare_compiling(torch.device("cpu"))

    @torch.compile(backend="eager", fullgraph=True)
    def step(x: torch.Tensor) -> torch.Tensor:
        return x + 1 if dispatch._flex_passes(x.device) else x

    assert step(torch.zeros(2)).tolist() == [1, 1]
    assert step(torch.ones(2)).tolist() == [2, 2]
    assert asked == [torch.device("cpu")]
