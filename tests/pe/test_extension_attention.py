"""What extensions make of attention, of a bias and of a table, and the windowed control."""

import math
from collections.abc import Callable

import pytest
import torch
from extended_models import LONG, VOCABULARY, logits, model, tokens
from rotary_reference import SHAPE, TRAIN_LENGTH, encoding, expected, rotary, theta, weights
from torch import Tensor

from model.errors import ModelError
from model.extension.base import extended, make
from model.pe.base import Context
from model.transformer import Transformer

D = SHAPE.head_dim


def ntk(c: int) -> float:
    return (10000 * (LONG / TRAIN_LENGTH) ** (D / (D - 2))) ** (-2 * c / D)


def yarn(t: float, alpha: float, beta: float, s: float) -> float:
    turns = TRAIN_LENGTH * t / (2 * math.pi)
    gamma = 0 if turns < alpha else 1 if turns > beta else (turns - alpha) / (beta - alpha)
    return (1 - gamma) * t / s + gamma * t


def test_scaled_frequencies_reach_queries_and_keys() -> None:
    longer = make(SHAPE, {"name": "yarn", "alpha": 0.2, "beta": 1.5, "factor": 4.0}).extend(encoding("rope"), LONG)
    new = [yarn(t, 0.2, 1.5, 4.0) for t in theta(D)]
    m = 0.1 * math.log(4) + 1
    truth = expected(lambda q, k, i, j, h: m * m * rotary(q, k, i - j, new))
    for kernel in ("dense", "chunked"):
        torch.testing.assert_close(weights(longer, kernel=kernel).double(), truth, atol=1e-5, rtol=0)


LEAK = (LONG - 7) / (TRAIN_LENGTH - 7)  # so that the longest distance, LONG - 1, becomes TRAIN_LENGTH - 1
REGIONS: dict[str, tuple[dict, Callable[[int, int], float | None]]] = {
    "rerope": ({"window": 6}, lambda i, j: min(i - j, 6)),
    "leaky_rerope": ({"window": 6}, lambda i, j: i - j if i - j < 6 else 6 + (i - j - 6) / LEAK),
    "self_extend": ({"window": 4}, lambda i, j: i - j if i - j < 4 else i // 15 - j // 15 + 4),  # 4 + 60 / 15 = 16 / 2
    "lm_infinite": ({"window": 6, "sinks": 2}, lambda i, j: min(i - j, 6) if i - j < 6 or j < 2 else None),
    "streaming": (
        {"window": 6, "sinks": 2},
        lambda i, j: i - j if i - j < 6 else min(i, 7) - j if j < 2 else None,
    ),
}


@pytest.mark.parametrize("name", REGIONS)
@pytest.mark.parametrize("after", [None, "ntk"])
def test_regions_over_a_trained_rope(name: str, after: str | None) -> None:
    chosen, distance = REGIONS[name]
    extension = {"name": name, **chosen}
    used = theta(D)
    if after:
        extension = {"name": "chain", "parts": [extension, after]}
        used = [ntk(c) for c in range(len(used))]

    def logit(q: list[float], k: list[float], i: int, j: int, h: int) -> float | None:
        apart = distance(i, j)
        return None if apart is None else rotary(q, k, apart, used)

    longer = make(SHAPE, extension).extend(encoding("rope"), LONG)
    torch.testing.assert_close(weights(longer).double(), expected(logit), atol=1e-5, rtol=0)


def test_the_default_regions_meet_no_distance_that_training_did_not() -> None:
    rope = encoding("rope")
    context = Context(torch.arange(LONG)[None], LONG, TRAIN_LENGTH, LONG, True)
    for name in ("rerope", "leaky_rerope", "self_extend", "dual_chunk", "lm_infinite", "streaming"):
        longer = make(SHAPE, name).extend(rope, LONG)
        i, j = torch.arange(LONG)[:, None], torch.arange(LONG)[None]
        region = longer.region(i, j).long()
        queries = torch.stack(longer.query_maps(context.positions))[:, 0]
        keys = torch.stack(longer.key_maps(context.positions))[:, 0]
        apart = queries[region.clamp(min=0), i] - keys[region.clamp(min=0) if len(keys) > 1 else 0, j]
        seen = apart[(j <= i) & (region >= 0)]
        assert seen.min() >= 0, name
        assert seen.max() <= TRAIN_LENGTH, name


def test_logn_and_temperature_change_nothing_in_training_length() -> None:
    base, x = model(), tokens(LONG)
    for name in ("logn", {"name": "temperature", "step": TRAIN_LENGTH + 1}):
        longer = extended(base, name, LONG)
        change = (logits(longer, x) - logits(base, x)).abs().amax((0, 2))
        assert change[:TRAIN_LENGTH].max() == 0
        assert change[TRAIN_LENGTH:].min() > 0


def test_logn_multiplies_logits() -> None:
    longer = make(SHAPE, "logn").extend(encoding("rope"), LONG)

    def logit(q: list[float], k: list[float], i: int, j: int, h: int) -> float:
        return max(1, math.log(i + 1) / math.log(TRAIN_LENGTH)) * rotary(q, k, i - j, theta(D))

    torch.testing.assert_close(weights(longer).double(), expected(logit), atol=1e-5, rtol=0)


def test_t5_rescale() -> None:
    t5 = encoding({"name": "t5", "buckets": 8, "max_distance": 16})
    n, s = 70, 4.0
    with torch.no_grad():
        table, wide = t5.table(n), make(SHAPE, "t5_rescale").extend(t5, LONG).table(n)
        near = make(SHAPE, {"name": "t5_rescale", "by": "distances", "factor": s}).extend(t5, LONG).table(n)

    def bucket(distance: int, most: float) -> int:
        if distance < 4:
            return distance
        return min(7, 4 + int(4 * math.log(distance / 4) / math.log(most / 4)))

    for distance in range(n):
        assert torch.equal(wide[:, distance], t5.weight[bucket(distance, 16 * s)]), distance
        below, share = divmod(distance / s, 1)
        between = (1 - share) * table[:, int(below)] + share * table[:, int(below) + 1]
        torch.testing.assert_close(near[:, distance], between)


def test_alibi_rescale_divides_the_slopes() -> None:
    alibi = encoding("alibi")
    torch.testing.assert_close(make(SHAPE, "alibi_rescale").extend(alibi, LONG).table(50), alibi.table(50) / 4)


def test_table_interpolation() -> None:
    base = model("learned")
    longer = extended(base, "table_interpolation", LONG)
    rows = base.encodings[0].rows.detach().double()
    context = Context(torch.arange(LONG)[None], LONG, TRAIN_LENGTH, LONG, True)
    with torch.no_grad():
        code = longer.encodings[0].embed(torch.zeros(1, LONG, 32), context)[0]
    for t in range(LONG):
        at = t * (TRAIN_LENGTH - 1) / (LONG - 1)
        below = min(int(at), TRAIN_LENGTH - 2)
        truth = (below + 1 - at) * rows[below] + (at - below) * rows[below + 1]
        torch.testing.assert_close(code[t].double(), truth, atol=1e-6, rtol=0)
    assert logits(longer, tokens(LONG)).isfinite().all()
    with pytest.raises(ModelError, match=f"length={LONG + 1}"):
        logits(longer, tokens(LONG + 1))
    with pytest.raises(ModelError, match=f"length={TRAIN_LENGTH + 1}"):
        logits(base, tokens(TRAIN_LENGTH + 1))


def test_drop_leaves_nope() -> None:
    base, nope = model("rope"), model("nope")
    nope.load_state_dict(base.state_dict())
    x = tokens(LONG)
    assert torch.equal(logits(extended(base, "drop", LONG), x), logits(nope, x))
    both = model({"name": "compose", "parts": ["rope", {"name": "window", "size": 5}]})
    window = model({"name": "window", "size": 5})
    window.load_state_dict({k: v for k, v in both.state_dict().items() if not k.startswith("encodings")})
    torch.testing.assert_close(logits(extended(both, "drop", LONG), x), logits(window, x))


CONTROLLED = ["nope", "rope", "alibi", "sinusoidal", "t5", "rerope", "rope_window", "fox", "cope", "sink"]


@pytest.mark.parametrize("pe", CONTROLLED)
def test_the_windowed_control_applies_to_every_encoding(pe: str) -> None:
    base = model(pe, model={"layers": 1})
    window = extended(base, {"name": "window", "size": 6}, LONG)
    x = tokens(LONG)
    whole = logits(window, x)
    torch.testing.assert_close(whole[:, :6], logits(base, x)[:, :6])
    other = x.clone()
    other[:, : LONG - 6] = (x[:, : LONG - 6] + 1) % VOCABULARY
    torch.testing.assert_close(logits(window, other)[:, -1], whole[:, -1])  # six keys back, one layer
    other[:, LONG - 6] = (x[:, LONG - 6] + 1) % VOCABULARY
    assert (logits(window, other)[:, -1] - whole[:, -1]).abs().max() > 1e-4


def test_the_window_is_the_training_length_by_default() -> None:
    base, x = model(), tokens(LONG)
    default, named = extended(base, "window", LONG), extended(base, {"name": "window", "size": TRAIN_LENGTH}, LONG)
    assert torch.equal(logits(default, x), logits(named, x))
    assert (logits(default, x) - logits(base, x))[:, :TRAIN_LENGTH].abs().max() < 1e-6
    assert (logits(default, x) - logits(base, x))[:, TRAIN_LENGTH:].abs().max() > 1e-3


@pytest.mark.parametrize("plan", ["randomised", "randomised_even", "random_float"])
def test_the_window_counts_tokens_where_positions_have_gaps(plan: str) -> None:
    base = model("rope", positions=plan, model={"layers": 1})
    window = extended(base, {"name": "window", "size": 6}, LONG)
    x = tokens(LONG)
    other = x.clone()
    other[:, : LONG - 6] = (x[:, : LONG - 6] + 1) % VOCABULARY

    def last(network: Transformer, tokens: Tensor) -> Tensor:
        return logits(network, tokens, generator=torch.Generator().manual_seed(0))[:, -1]

    torch.testing.assert_close(last(window, other), last(window, x))
    assert (last(base, other) - last(base, x)).abs().max() > 1e-3
    other[:, LONG - 6] = (x[:, LONG - 6] + 1) % VOCABULARY
    assert (last(window, other) - last(window, x)).abs().max() > 1e-4
