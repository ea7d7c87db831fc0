import copy
import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_training import Net, batch, train

from longrun.training.optimizers import OPTIMIZERS, build_optimizer
from longrun.training.parameters import clip_gradients
from longrun.training.schedule import KINDS, schedule
from model.errors import ModelError

torch.set_num_threads(1)


def names_of(model: Net, group: dict) -> set[str]:
    members = {id(p) for p in group["params"]}
    return {name for name, p in model.named_parameters() if id(p) in members}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_parameter_is_in_one_group_and_only_matrices_decay(name: str):
    model = Net()
    optimizer = build_optimizer(model, name, weight_decay=0.3)
    members = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(members) == sorted(id(p) for p in model.parameters())
    decayed = set().union(*(names_of(model, g) for g in optimizer.param_groups if g["weight_decay"] == 0.3))
    assert decayed == {"embedding.weight", "layers.0.weight", "layers.1.weight"}  # slopes are 2-D, but marked
    assert {g["weight_decay"] for g in optimizer.param_groups} == {0.3, 0.0}


def test_frozen_parameters_are_left_out():
    model = Net()
    model.embedding.weight.requires_grad_(False)
    optimizer = build_optimizer(model)
    assert "embedding.weight" not in set().union(*(names_of(model, g) for g in optimizer.param_groups))


def test_adamw_step_agrees_with_the_formula_of_the_paper():
    """arXiv 1711.05101, algorithm 2, written out for one weight and two steps."""
    weight = torch.nn.Linear(1, 1, bias=False)
    weight.weight.data.fill_(2.0)
    optimizer = build_optimizer(weight, lr=0.1, betas=(0.9, 0.95), weight_decay=0.5, eps=1e-8)
    expected, m, v = 2.0, 0.0, 0.0
    for t, gradient in enumerate([3.0, -1.0], start=1):
        weight.weight.grad = torch.tensor([[gradient]])
        optimizer.step()
        m, v = 0.9 * m + 0.1 * gradient, 0.95 * v + 0.05 * gradient**2
        update = (m / (1 - 0.9**t)) / (math.sqrt(v / (1 - 0.95**t)) + 1e-8)
        expected = expected * (1 - 0.1 * 0.5) - 0.1 * update
    assert weight.weight.item() == pytest.approx(expected, rel=1e-6)
    assert optimizer.param_groups[0]["fused"]


def test_muon_takes_the_matrices_inside_and_makes_their_steps_orthogonal():
    model = Net()
    optimizer = build_optimizer(model, "muon", lr=0.01, weight_decay=0.0)
    inside = [names_of(model, g) for g in optimizer.param_groups if g["muon"]]
    assert inside == [{"layers.0.weight", "layers.1.weight"}]  # neither the embedding nor the tied output layer
    before = model.layers[0].weight.detach().clone()
    model(*batch(0)).backward()
    optimizer.step()
    of_gradient = torch.linalg.svdvals(model.layers[0].weight.grad)
    of_step = torch.linalg.svdvals(model.layers[0].weight.detach() - before)
    assert of_gradient[0] / of_gradient[10] > 4
    assert of_step[0] / of_step[10] < 2  # Newton-Schulz brings the singular values to about 0.7 .. 1.2
    rms = (model.layers[0].weight - before).square().mean().sqrt().item()
    assert 0.1 * 0.01 < rms < 0.4 * 0.01  # AdamW's size, so that one learning rate serves both


def test_muon_leaves_an_output_layer_of_its_own_and_the_networks_of_an_encoding_alone():
    model = Net()
    model.head.weight = torch.nn.Parameter(model.head.weight.detach().clone())
    model.encodings = torch.nn.ModuleList([torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.Linear(8, 2))])
    inside = [names_of(model, g) for g in build_optimizer(model, "muon").param_groups if g["muon"]]
    assert inside == [{"layers.0.weight", "layers.1.weight"}]


def test_one_learning_rate_reaches_both_halves_of_muon_and_both_hold_state():
    model = Net()
    optimizer = build_optimizer(model, "muon")
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    train(model, optimizer, range(3))
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())
    assert len(optimizer.state) == len(list(model.parameters()))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_learns_and_state_dict_round_trips(name: str):
    """Also torch's own state_dict works on the two-in-one optimizer, groups replaced by new objects included."""
    model = Net().eval()
    optimizer = build_optimizer(model, name, lr=0.01)
    losses = train(model, optimizer, range(1)) + train(model, optimizer, [0] * 40)
    assert losses[-1] < 0.8 * losses[0]
    twin = Net().eval()
    twin.load_state_dict(model.state_dict())
    second = build_optimizer(twin, name, lr=0.5)
    second.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert train(model, optimizer, range(3)) == train(twin, second, range(3))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "adam2"}, ["adam2", "adamw, muon"]),
        ({"lr": 0.0}, ["lr=0.0"]),
        ({"betas": (0.9, 1.0)}, ["betas=(0.9, 1.0)"]),
        ({"weight_decay": -1}, ["weight_decay=-1"]),
        ({"lr": float("nan")}, ["lr=nan"]),
    ],
)
def test_bad_options_are_refused(options: dict, words: list[str]):
    with pytest.raises(ModelError) as caught:
        build_optimizer(Net(), **options)
    assert all(word in str(caught.value) for word in words)


def test_muon_without_a_matrix_inside_is_refused():
    with pytest.raises(ModelError, match="adamw"):
        build_optimizer(Net(layers=0), "muon")


@pytest.mark.parametrize("limit", [0.01, 1e9, None])
def test_clip_gradients(limit: float | None):
    model = Net()
    model(*batch(0)).backward()
    by_hand = math.sqrt(sum(p.grad.double().square().sum().item() for p in model.parameters()))
    assert clip_gradients(model, limit) == pytest.approx(by_hand, rel=1e-5)
    after = math.sqrt(sum(p.grad.double().square().sum().item() for p in model.parameters()))
    assert after == pytest.approx(0.01 if limit == 0.01 else by_hand, rel=1e-3)
    model.norm.bias.grad[0] = torch.nan
    assert math.isnan(clip_gradients(model, limit))


@st.composite
def plans(draw) -> dict:
    steps = draw(st.integers(1, 400))
    return {
        "steps": steps,
        "warmup": draw(st.integers(0, steps)),
        "kind": draw(st.sampled_from(sorted(KINDS))),
        "min_lr_ratio": draw(st.floats(0, 1)),
        "decay_fraction": draw(st.floats(0, 1)),
    }


@given(plans())
def test_schedule_climbs_to_one_then_never_rises_and_ends_at_final(plan: dict):
    steps, warmup = plan["steps"], plan["warmup"]
    rates = [schedule(step, **plan) for step in range(steps + 2)]
    assert all(0 < rate <= 1 for rate in rates[:steps])
    assert all(a < b for a, b in pairwise(rates[: warmup + 1]))
    assert all(a >= b - 1e-12 for a, b in pairwise(rates[warmup:]))
    if warmup < steps:
        assert rates[warmup] == pytest.approx(1)
        if plan["kind"] == "cosine" or (plan["kind"] == "wsd" and round(plan["decay_fraction"] * steps)):
            assert rates[steps] == pytest.approx(plan["min_lr_ratio"])
    assert rates[steps] == rates[steps + 1]


def test_schedule_values_written_out():
    assert [schedule(s, 8, warmup=3, kind="constant") for s in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert [
        schedule(s, 10, kind="wsd", min_lr_ratio=0.0, decay_fraction=0.4) for s in (0, 6, 7, 8, 9, 10)
    ] == pytest.approx([1.0, 1.0, 0.75, 0.5, 0.25, 0.0])
    assert [schedule(s, 4, kind="cosine", min_lr_ratio=0.0) for s in (0, 1, 2, 3, 4)] == pytest.approx(
        [1.0, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4, 0.0]
    )


@pytest.mark.parametrize(
    ("options", "word"),
    [({"kind": "linear"}, "cosine, wsd, constant"), ({"warmup": 11}, "11"), ({"min_lr_ratio": 2}, "min_lr_ratio=2")],
)
def test_bad_schedules_are_refused(options: dict, word: str):
    with pytest.raises(ModelError, match=word):
        schedule(0, 10, **options)
