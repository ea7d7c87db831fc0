"""Rotary and region schemes against their papers' formulas, one number at a time."""

import cmath
import math
from dataclasses import replace

import pytest
import torch
from rotary_reference import (
    BASE,
    LENGTH,
    SHAPE,
    TRAIN_LENGTH,
    Logit,
    draw,
    encoding,
    expected,
    pairs,
    rotary,
    theta,
    weights,
)
from torch import Tensor

from model.errors import ModelError
from model.pe.base import PositionEncoding

D = SHAPE.head_dim
KERNELS = ("dense", "chunked")


def check(scheme: PositionEncoding, logit: Logit, start: int = 0) -> None:
    """Weights equal the reference in both kernels, for all queries at once and for the last few alone."""
    shape = scheme.shape
    truth = expected(logit, shape=shape)
    positions = torch.arange(start, start + LENGTH)[None]
    for kernel in KERNELS:
        torch.testing.assert_close(weights(scheme, positions, kernel=kernel).double(), truth, atol=1e-5, rtol=0)
        some = weights(scheme, positions, queries=3, kernel=kernel).double()
        torch.testing.assert_close(some, truth[:, -3:], atol=1e-5, rtol=0)


def content(q: list[float], k: list[float]) -> float:
    return sum(a * b for a, b in zip(q, k, strict=True))


@pytest.mark.parametrize("layout", ["half", "interleaved"])
@pytest.mark.parametrize("partial", [1.0, 0.5])
@pytest.mark.parametrize("start", [0, 100_000])
def test_rope(layout: str, partial: float, start: int) -> None:
    frequencies = theta(int(partial * D))
    scheme = encoding({"name": "rope", "layout": layout, "partial": partial})
    check(scheme, lambda q, k, i, j, h: rotary(q, k, i - j, frequencies, layout), start)


def test_rope_keeps_grouped_queries_apart() -> None:
    shape = replace(SHAPE, heads=4, width=64)
    check(encoding("rope", shape), lambda q, k, i, j, h: rotary(q, k, i - j, theta(D)))


@pytest.mark.parametrize("base", [10.0, 500_000.0])
def test_rope_with_another_base(base: float) -> None:
    check(encoding({"name": "rope", "base": base}), lambda q, k, i, j, h: rotary(q, k, i - j, theta(D, base)))


@pytest.mark.parametrize(("p", "turning"), [(1.0, 8), (0.75, 6), (0.3, 2), (0.0, 0)])
def test_p_rope(p: float, turning: int) -> None:
    frequencies = [f if c < turning else 0.0 for c, f in enumerate(theta(D))]
    check(encoding({"name": "p_rope", "p": p}), lambda q, k, i, j, h: rotary(q, k, i - j, frequencies))


@pytest.mark.parametrize("length", [None, 9, 1000])
def test_hope(length: int | None) -> None:
    frequencies = [f if 2 * math.pi / f <= (length or TRAIN_LENGTH) else 0.0 for f in theta(D)]
    assert 0 < sum(f > 0 for f in frequencies) < len(frequencies)
    check(encoding({"name": "hope", "length": length}), lambda q, k, i, j, h: rotary(q, k, i - j, frequencies))


@pytest.mark.parametrize("layout", ["half", "interleaved"])
@pytest.mark.parametrize("start", [0, 100_000])  # where zeta^-j is 10^106
def test_xpos(layout: str, start: int) -> None:
    gamma, span = 0.4, 20.0

    def logit(q: list[float], k: list[float], i: int, j: int, h: int) -> float:
        def fade(c: int) -> float:
            return ((2 * c / D + gamma) / (1 + gamma)) ** ((i - j) / span)

        return rotary(q, k, i - j, theta(D), layout, fade)

    check(encoding({"name": "xpos", "layout": layout, "span": span}), logit, start)


def test_xpos_far_apart_positions_stay_finite() -> None:
    positions = torch.arange(LENGTH)[None] * 5000
    assert weights(encoding("xpos"), positions, kernel="chunked").isfinite().all()


def mixed(mixture: Tensor, h: int, t: int, length: int) -> list[complex]:
    """FoPE's multipliers of a head at position t: series of cos + i sin, then 1 for the pairs that stay still."""
    known = [f for f in theta(D) if f * length >= 2 * math.pi]
    series = mixture.shape[-1]
    out = []
    for pair in range(series):
        cos = sum(math.cos(t * f) * mixture[0, h, n, pair].item() for n, f in enumerate(known))
        sin = sum(math.sin(t * f) * mixture[1, h, n, pair].item() for n, f in enumerate(known))
        out.append(complex(cos, sin))
    return out + [1 + 0j] * (D // 2 - series)


@pytest.mark.parametrize("name", ["fope", "fope_learned"])
@pytest.mark.parametrize("length", [TRAIN_LENGTH, 4096])  # 4 frequencies for 4 pairs; 6 for 4
def test_fope(name: str, length: int) -> None:
    shape = replace(SHAPE, train_length=length)
    scheme = encoding(name, shape)
    mixture = scheme.mixture().detach()
    assert mixture.shape[-1] == min(D // 4, mixture.shape[-2])
    turns = [[mixed(mixture, h, t, length) for t in range(LENGTH)] for h in range(SHAPE.heads)]

    def logit(q: list[float], k: list[float], i: int, j: int, h: int) -> float:
        turn_q, turn_k = turns[h][i], turns[h][j]
        products = zip(pairs(q, "half", D), turn_q, pairs(k, "half", D), turn_k, strict=True)
        return sum((a * u * (b * v).conjugate()).real for a, u, b, v in products)

    check(scheme, logit)


def test_fope_without_noise_is_rope_on_what_turns() -> None:
    shape = replace(SHAPE, train_length=4 * TRAIN_LENGTH)
    scheme = encoding({"name": "fope", "gain": 0.0}, shape)
    known = [f for f in theta(D) if f * shape.train_length >= 2 * math.pi]
    main = known[:: math.ceil(len(known) / (D // 4))]
    frequencies = main + [0.0] * (D // 2 - len(main))
    check(scheme, lambda q, k, i, j, h: rotary(q, k, i - j, frequencies))


@pytest.mark.parametrize("start", [0, 100_000])
def test_pope(start: int) -> None:
    scheme = encoding("pope")
    assert torch.equal(scheme.delta, torch.zeros_like(scheme.delta))
    with torch.no_grad():
        scheme.delta.uniform_(-8, 2, generator=torch.Generator().manual_seed(0))  # clipped to [-2 pi, 0]
    delta = scheme.delta.detach().double().clamp(-2 * math.pi, 0).tolist()

    def softplus(x: float) -> float:
        return math.log1p(math.exp(x))

    def logit(q: list[float], k: list[float], i: int, j: int, h: int) -> float:
        angles = [(i - j) * BASE ** (-c / D) - delta[h][c] for c in range(D)]
        return sum(softplus(a) * softplus(b) * math.cos(t) for a, b, t in zip(q, k, angles, strict=True))

    check(scheme, logit, start)


def test_rope_2d_turns_each_half_by_its_own_id() -> None:
    scheme, frequencies = encoding("rope_2d"), theta(D // 2)
    second = torch.randint(0, 9, (LENGTH,), generator=torch.Generator().manual_seed(0))

    def logit(q: list[float], k: list[float], i: int, j: int, h: int, second: list[int]) -> float:
        first_half = rotary(q[: D // 2], k[: D // 2], i - j, frequencies)
        return first_half + rotary(q[D // 2 :], k[D // 2 :], second[i] - second[j], frequencies)

    check(scheme, lambda *a: logit(*a, second=[0] * LENGTH))  # one id: the second is 0
    positions = torch.stack([torch.arange(LENGTH), second], -1)[None]
    truth = expected(lambda *a: logit(*a, second=second.tolist()))
    for kernel in KERNELS:
        torch.testing.assert_close(weights(scheme, positions, kernel=kernel).double(), truth, atol=1e-5, rtol=0)


def test_rope_decoupled() -> None:
    channels, length = 6, 12
    scheme = encoding({"name": "rope_decoupled", "channels": channels})
    x = draw(length)[2][0].tolist()
    query, key = scheme.query.weight.tolist(), scheme.key.weight.tolist()
    assert (len(query), len(key)) == (SHAPE.heads * channels, channels)

    def logit(q: list[float], k: list[float], i: int, j: int, h: int) -> float:
        own = [content(query[h * channels + c], x[i]) for c in range(channels)]
        shared = [content(key[c], x[j]) for c in range(channels)]
        whole = content(q, k) + rotary(own, shared, i - j, theta(channels), "interleaved")
        return whole / math.sqrt(D + channels) * math.sqrt(D)  # `expected` divides by sqrt(D)

    got = weights(scheme, torch.arange(length)[None]).double()
    torch.testing.assert_close(got, expected(logit, length), atol=1e-5, rtol=0)


@pytest.mark.parametrize("length", [None, 5])
def test_logn(length: int | None) -> None:
    start, scheme = math.log(length or TRAIN_LENGTH), encoding({"name": "logn", "length": length})
    check(scheme, lambda q, k, i, j, h: content(q, k) * max(1, math.log(i + 1) / start))


def test_ssmax() -> None:
    scheme = encoding("ssmax")
    torch.testing.assert_close(scheme.s.detach(), torch.full((SHAPE.heads,), 1 / math.log(TRAIN_LENGTH)))
    with torch.no_grad():
        scheme.s.copy_(torch.tensor([0.3, 1.1]))
    s = scheme.s.tolist()
    check(scheme, lambda q, k, i, j, h: s[h] * math.log(i + 1) * content(q, k))
    # The paper's form: softmax of s ln n z is n^(s z) over the sum of them.
    q, k, _ = draw()
    n = LENGTH
    powers = [n ** (s[1] * content(q[0, 1, -1].tolist(), k[0, 1, j].tolist()) / math.sqrt(D)) for j in range(n)]
    torch.testing.assert_close(weights(scheme)[1, -1], torch.tensor(powers) / sum(powers), atol=1e-5, rtol=0)


def test_head_scale() -> None:
    scheme = encoding("head_scale")
    assert scheme.scale.tolist() == [1.0, 1.0]
    with torch.no_grad():
        scheme.scale.copy_(torch.tensor([0.3, 1.7]))
    check(scheme, lambda q, k, i, j, h: (0.3, 1.7)[h] * content(q, k))


def test_temperature() -> None:
    scheme = encoding({"name": "temperature", "step": 8, "slope": 0.7})
    check(scheme, lambda q, k, i, j, h: content(q, k) * (1 + 0.7 * math.log(1 + (i + 1) // 8)))


W = 6  # a window


@pytest.mark.parametrize("rope", ["rope", "rope_interleaved", "rope_partial", "p_rope"])
@pytest.mark.parametrize("start", [0, 100_000])
def test_rerope(rope: str, start: int) -> None:
    layout = "interleaved" if rope == "rope_interleaved" else "half"
    frequencies = theta(D // 4) if rope == "rope_partial" else theta(D)
    if rope == "p_rope":
        frequencies = [*frequencies[:6], 0.0, 0.0]
    scheme = encoding({"name": "rerope", "rope": rope, "window": W})
    check(scheme, lambda q, k, i, j, h: rotary(q, k, min(i - j, W), frequencies, layout), start)


@pytest.mark.parametrize("start", [0, 100_000])
def test_leaky_rerope(start: int) -> None:
    def distance(i: int, j: int) -> float:
        return i - j if i - j < W else W + (i - j - W) / 5

    scheme = encoding({"name": "leaky_rerope", "window": W, "factor": 5.0})
    check(scheme, lambda q, k, i, j, h: rotary(q, k, distance(i, j), theta(D)), start)


@pytest.mark.parametrize("group", [1, 3, 4])
def test_self_extend(group: int) -> None:
    def distance(i: int, j: int) -> int:
        return i - j if i - j < W else i // group - j // group + W - W // group

    scheme = encoding({"name": "self_extend", "window": W, "group": group})
    check(scheme, lambda q, k, i, j, h: rotary(q, k, distance(i, j), theta(D)))


@pytest.mark.parametrize(("size", "window"), [(0.75, 0.125), (12, 5), (12, 8), (9, 8)])
def test_dual_chunk(size: float, window: float) -> None:
    c = round(size * TRAIN_LENGTH) if size < 1 else size
    s = c - (round(window * TRAIN_LENGTH) if window < 1 else window)

    def distance(i: int, j: int) -> int:
        if i // s == j // s:
            return i - j
        if i // s == j // s + 1:
            return min(i % s + s, c) - j % s
        return min(2 * s - 1, c) - j % s

    scheme = encoding({"name": "dual_chunk", "size": size, "window": window})
    check(scheme, lambda q, k, i, j, h: rotary(q, k, distance(i, j), theta(D)))


@pytest.mark.parametrize("sinks", [0, 3])
def test_lm_infinite(sinks: int) -> None:
    def logit(q: list[float], k: list[float], i: int, j: int, h: int) -> float | None:
        return None if i - j >= W and j >= sinks else rotary(q, k, min(i - j, W), theta(D))

    check(encoding({"name": "lm_infinite", "window": W, "sinks": sinks}), logit)


@pytest.mark.parametrize("sinks", [0, 3])
def test_streaming_is_a_cache_that_evicts(sinks: int) -> None:
    """Token by token: after each token the cache drops the oldest one that is no sink, and positions are its slots."""
    cache: list[int] = []
    slots: list[dict[int, int]] = []  # for each query: token -> slot
    for i in range(LENGTH):
        cache.append(i)
        if len(cache) > sinks + W:
            del cache[sinks]
        slots.append({token: slot for slot, token in enumerate(cache)})

    def logit(q: list[float], k: list[float], i: int, j: int, h: int) -> float | None:
        return rotary(q, k, slots[i][i] - slots[i][j], theta(D)) if j in slots[i] else None

    check(encoding({"name": "streaming", "window": W, "sinks": sinks}), logit)


def test_regions_need_an_encoding_that_only_rotates() -> None:
    for rope in ("xpos", "rope_2d", "rope_decoupled", "alibi", "rerope"):
        with pytest.raises(ModelError, match="nothing but rotate"):
            encoding({"name": "rerope", "rope": rope})


def test_turning_queries_and_keys_is_turning_queries_by_the_difference() -> None:
    """RoPE's defining identity: q at m and k at n, or q at m - n and k at 0."""
    for m, n in [(7, 3), (1003, 999), (3, 7)]:
        q, k = (x[0, 0, 0].tolist() for x in draw(1)[:2])
        turn = [cmath.exp(1j * m * f) for f in theta(D)], [cmath.exp(1j * n * f) for f in theta(D)]
        both = sum(
            (a * u * (b * v).conjugate()).real
            for a, u, b, v in zip(pairs(q, "half", D), turn[0], pairs(k, "half", D), turn[1], strict=True)
        )
        assert math.isclose(both, rotary(q, k, m - n, theta(D)), abs_tol=1e-9)
