"""The rules for rotary frequencies, written out again as functions of one pair of channels.

What they do to attention is held by test_reference_rotary.py, because a rule only replaces the frequencies there.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from extended_models import LONG, fitting
from rotary_reference import SHAPE, TRAIN_LENGTH, encoding, theta

from model.extension.base import make
from model.extension.registry import names
from model.pe.base import Context

D = SHAPE.head_dim

Rule = Callable[[int, float, float, int], float]  # pair c, its theta, s = L'/L, tokens so far -> theta'


def frequencies(extension: dict, tokens_so_far: int = LONG, rope: dict | None = None) -> tuple[list[float], float]:
    """What the product uses for a sequence of LONG tokens."""
    longer = make(SHAPE, extension).extend(encoding({"name": "rope", **(rope or {})}), LONG)
    context = Context(torch.arange(tokens_so_far)[None], tokens_so_far, TRAIN_LENGTH, tokens_so_far, True)
    found, amplitude = longer.scaled(context)
    assert found.dtype == torch.float64
    return found.tolist(), amplitude


def turns(frequency: float) -> float:
    return TRAIN_LENGTH * frequency / (2 * math.pi)


def pi(c: int, t: float, s: float, n: int) -> float:
    return t / s


def ntk(c: int, t: float, s: float, n: int) -> float:
    return (10000 * s ** (D / (D - 2))) ** (-2 * c / D)


def dynamic_ntk(c: int, t: float, s: float, n: int) -> float:
    return ntk(c, t, max(1, n / TRAIN_LENGTH), n)


def qwen_ntk(c: int, t: float, s: float, n: int) -> float:
    return ntk(c, t, max(1, 2 ** math.ceil(math.log(n / TRAIN_LENGTH, 2) + 1) - 1), n)


def ntk_mixed(c: int, t: float, s: float, n: int) -> float:
    return t * math.exp(-math.log(s) / (D / 2) ** 0.75 * (c + 1) ** 0.75)


def by_parts(alpha: float, beta: float) -> Rule:
    def rule(c: int, t: float, s: float, n: int) -> float:
        gamma = 0 if turns(t) < alpha else 1 if turns(t) > beta else (turns(t) - alpha) / (beta - alpha)
        return (1 - gamma) * t / s + gamma * t

    return rule


def yarn_code(alpha: float, beta: float, truncate: bool) -> Rule:
    def pair(number: float) -> float:
        return D * math.log(TRAIN_LENGTH / (number * 2 * math.pi)) / (2 * math.log(10000))

    low, high = pair(beta), pair(alpha)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, D - 1)

    def rule(c: int, t: float, s: float, n: int) -> float:
        ramp = min(1, max(0, (c - low) / (high - low)))
        return t / s * ramp + t * (1 - ramp)

    return rule


def longrope(c: int, t: float, s: float, n: int) -> float:
    return t / (2 + c if n > TRAIN_LENGTH else 1 + 0.1 * c)


def resonance(c: int, t: float, s: float, n: int) -> float:
    return 2 * math.pi / round(2 * math.pi / t)


LISTS = {"short": [1 + 0.1 * c for c in range(D // 2)], "long": [2.0 + c for c in range(D // 2)]}
RULES: list[tuple[dict, Rule, float]] = [
    ({"name": "pi"}, pi, 1.0),
    ({"name": "ntk"}, ntk, 1.0),
    ({"name": "dynamic_ntk"}, dynamic_ntk, 1.0),
    ({"name": "qwen_ntk"}, qwen_ntk, 1.0),
    ({"name": "ntk_mixed"}, ntk_mixed, 1.0),
    ({"name": "ntk_by_parts", "alpha": 0.2, "beta": 1.5}, by_parts(0.2, 1.5), 1.0),
    ({"name": "llama3", "alpha": 0.2, "beta": 1.5}, by_parts(0.2, 1.5), 1.0),
    ({"name": "yarn", "alpha": 0.2, "beta": 1.5}, by_parts(0.2, 1.5), 0.1 * math.log(4) + 1),
    ({"name": "yarn", "alpha": 0.2, "beta": 1.5, "mscale": 2.0}, by_parts(0.2, 1.5), 0.2 * math.log(4) + 1),
    ({"name": "yarn", "alpha": 0.2, "beta": 1.5, "amplitude": 1.3}, by_parts(0.2, 1.5), 1.3),
    ({"name": "yarn_code", "alpha": 0.2, "beta": 1.5}, yarn_code(0.2, 1.5, True), 0.1 * math.log(4) + 1),
    (
        {"name": "yarn_code", "alpha": 0.2, "beta": 1.5, "truncate": False},
        yarn_code(0.2, 1.5, False),
        0.1 * math.log(4) + 1,
    ),
    ({"name": "longrope", **LISTS}, longrope, math.sqrt(1 + math.log(4) / math.log(TRAIN_LENGTH))),
    ({"name": "resonance"}, resonance, 1.0),
]


@pytest.mark.parametrize(("extension", "rule", "amplitude"), RULES, ids=[rule[0]["name"] for rule in RULES])
@pytest.mark.parametrize("n", [5, TRAIN_LENGTH, TRAIN_LENGTH + 1, 2 * TRAIN_LENGTH + 1, LONG])
def test_frequencies(extension: dict, rule: Rule, amplitude: float, n: int) -> None:
    found, scale = frequencies(extension, n)
    assert found == pytest.approx([rule(c, t, LONG / TRAIN_LENGTH, n) for c, t in enumerate(theta(D))], rel=1e-12)
    assert scale == pytest.approx(amplitude, rel=1e-12)


@pytest.mark.parametrize(("name", "rule"), [("pi", pi), ("ntk", ntk), ("ntk_mixed", ntk_mixed)])
def test_a_factor_that_is_given_is_used(name: str, rule: Rule) -> None:
    given = frequencies({"name": name, "factor": 2.5})[0]
    assert given == pytest.approx([rule(c, t, 2.5, LONG) for c, t in enumerate(theta(D))], rel=1e-12)


def test_dynamic_yarn_follows_the_tokens_so_far() -> None:
    for n in (8, TRAIN_LENGTH, 24, LONG):
        s = max(1, n / TRAIN_LENGTH)
        expected = [by_parts(1, 2)(c, t, s, n) for c, t in enumerate(theta(D))]
        assert frequencies({"name": "dynamic_yarn"}, n) == (
            pytest.approx(expected, rel=1e-12),
            pytest.approx(0.1 * math.log(s) + 1),
        )


def test_the_released_dynamic_rule() -> None:
    s = 3.0 * LONG / TRAIN_LENGTH - 2.0
    found = frequencies({"name": "dynamic_ntk", "factor": 3.0})[0]
    assert found == pytest.approx([ntk(c, t, s, LONG) for c, t in enumerate(theta(D))], rel=1e-12)


def test_beta_scales_with_the_training_length() -> None:
    """The paper's 32 turns belong to 4,096 tokens; in 201 tokens no pair makes them, so all would be interpolated."""
    betas = {n: make(replace(SHAPE, train_length=n), "yarn").beta for n in (16, 64, 128, 1024, 4096, 65536)}
    assert betas == {16: 2, 64: 4, 128: math.sqrt(128) / 2, 1024: 16, 4096: 32, 65536: 32}
    for n in (32, 64, 128, 4096):
        assert n / (2 * math.pi) > make(replace(SHAPE, train_length=n), "yarn").beta, "the fastest pair must stay"


def test_the_slowest_pair_is_interpolated_and_the_fastest_is_not() -> None:
    s, plain = LONG / TRAIN_LENGTH, theta(D)
    for name in ("ntk", "dynamic_ntk", "yarn", "yarn_code", "ntk_by_parts"):
        found = frequencies({"name": name, **({"beta": 2.0} if "n_b" in name or "yarn" in name else {})})[0]
        assert found[0] == pytest.approx(plain[0])
        assert found[-1] == pytest.approx(plain[-1] / s)


def test_rules_in_a_chain_are_applied_one_after_the_other() -> None:
    chain = {"name": "chain", "parts": [{"name": "yarn", "alpha": 0.2, "beta": 1.5}, "resonance"]}
    found, amplitude = frequencies(chain)
    first = [by_parts(0.2, 1.5)(c, t, 4, LONG) for c, t in enumerate(theta(D))]
    assert found == pytest.approx([resonance(c, t, 4, LONG) for c, t in enumerate(first)])
    assert amplitude == pytest.approx(0.1 * math.log(4) + 1)
    lengths = frequencies({"name": "chain", "parts": ["pi", "pi"], "lengths": [2 * TRAIN_LENGTH, 3 * TRAIN_LENGTH]})[0]
    assert lengths == pytest.approx([t / 6 for t in theta(D)])


def test_pairs_that_stand_still_stay_still() -> None:
    for name in names():
        if fitting(name) == "rope":
            longer = make(SHAPE, name).extend(encoding({"name": "p_rope", "p": 0.5}), LONG)
            rope = getattr(longer, "rope", longer)
            if not hasattr(rope, "scaled"):
                continue
            found, _ = rope.scaled(Context(torch.arange(LONG)[None], LONG, TRAIN_LENGTH, LONG, True))
            assert found.isfinite().all()
            assert (found[D // 4 :] == 0).all()
            assert (found[: D // 4] > 0).all()
