"""Context extension: the papers' rules, on a copy, only where they apply.

The rules are written out again as functions of one pair of channels; what they do to attention is held by
test_reference_rotary.py, because a rule only replaces the frequencies there.
"""

import inspect
import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from rotary_reference import SHAPE, TRAIN_LENGTH, encoding, expected, rotary, theta, weights
from torch import Tensor

from model import build
from model.errors import ModelError
from model.extension.base import extended, make
from model.extension.registry import extensions, names, options
from model.pe.base import Context, PositionEncoding
from model.transformer import Transformer

D, VOCABULARY = SHAPE.head_dim, 48
LONG = 4 * TRAIN_LENGTH
every_extension = pytest.mark.parametrize("name", names())
ROTARY = "rotary encodings"


def model(pe: str | dict = "rope", **options: object) -> Transformer:
    shape = {"layers": 2, "width": 32, "heads": 2, "tie": False}
    return build(VOCABULARY, TRAIN_LENGTH, shape | options.pop("model", {}), pe, **options).eval()


def tokens(length: int) -> Tensor:
    return torch.randint(VOCABULARY, (2, length), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def logits(network: Transformer, x: Tensor, **how: object) -> Tensor:
    return network(x, **how)


def layers(network: Transformer) -> list[PositionEncoding]:
    return [network.encodings[which] for which in network.encoding_of_layer]


def fitting(name: str) -> str:
    """An encoding that the extension applies to."""
    return {"t5_rescale": "t5", "alibi_rescale": "alibi", "table_interpolation": "learned"}.get(name, "rope")


# ---------------------------------------------------------------------------------------------- frequency rules

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


# ---------------------------------------------------------------------------------------------- attention


def test_scaled_frequencies_reach_queries_and_keys() -> None:
    longer = make(SHAPE, {"name": "yarn", "alpha": 0.2, "beta": 1.5, "factor": 4.0}).extend(encoding("rope"), LONG)
    new = [by_parts(0.2, 1.5)(c, t, 4.0, LONG) for c, t in enumerate(theta(D))]
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
        used = [ntk(c, t, LONG / TRAIN_LENGTH, 0) for c, t in enumerate(used)]

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


# ---------------------------------------------------------------------------------------------- other encodings


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


# ---------------------------------------------------------------------------------------------- the windowed control


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


# ---------------------------------------------------------------------------------------------- what holds for all


@every_extension
@pytest.mark.parametrize("chosen", ["alone", "composed", "scheduled"])
def test_never_in_place_and_weights_are_shared(name: str, chosen: str) -> None:
    part = fitting(name)
    if part == "learned" and chosen == "scheduled":
        return  # a code that is added to the embedding is in no schedule
    composed = {"name": "compose", "parts": [part, "sink"]}
    scheduled = {"name": "schedule", "pattern": [part, "nope"]}
    pe = {"alone": part, "composed": composed, "scheduled": scheduled}[chosen]
    base, x = model(pe), tokens(TRAIN_LENGTH)
    before, state = logits(base, x), {k: v.clone() for k, v in base.state_dict().items()}
    config = repr(base.config)
    longer = extended(base, name, LONG)
    logits(longer, x)
    assert torch.equal(logits(base, x), before)
    assert repr(base.config) == config
    assert all(torch.equal(state[k], v) for k, v in base.state_dict().items())
    mine, theirs = ({id(p) for p in network.parameters()} for network in (base, longer))
    assert mine <= theirs
    if name == "none":
        assert longer is base
        return
    # In a schedule the other layers keep their encoding, unless the extension is for all of them.
    kept = [new is old for new, old in zip(layers(longer), layers(base), strict=True)]
    everywhere = name in {"window", "logn", "ssmax", "temperature"} or "logn" in str(longer.config["extension"])
    assert kept == [False, chosen == "scheduled" and not everywhere]


@every_extension
def test_layers_that_shared_an_encoding_go_on_sharing_one(name: str) -> None:
    longer = extended(model(fitting(name)), name, LONG)
    assert longer.encoding_of_layer == ([0, 1] if name == "ssmax" else [0, 0])


IDENTITIES = [
    "none", "pi", "ntk", "dynamic_ntk", "ntk_by_parts", "yarn", "yarn_code", "dynamic_yarn", "llama3", "longrope",
    "qwen_ntk", "qwen", "ntk_mixed", "leaky_rerope", "self_extend", "lm_infinite", "streaming", "logn", "chain",
    "window", "t5_rescale", "alibi_rescale", "table_interpolation",
]  # fmt: skip
REORDERED = {"leaky_rerope", "self_extend", "lm_infinite", "streaming"}  # the same sums in another order


@pytest.mark.parametrize("name", IDENTITIES)
@pytest.mark.parametrize("length", [TRAIN_LENGTH // 2, TRAIN_LENGTH])
def test_within_the_training_length_there_is_nothing_to_extend(name: str, length: int) -> None:
    base, x = model(fitting(name)), tokens(length)
    change = (logits(extended(base, name, length), x) - logits(base, x)).abs().max()
    assert change <= (1e-5 if name in REORDERED else 0)


CHANGES_ALWAYS = {"drop", "dual_chunk", "rerope", "rerope_logn", "resonance", "resonance_yarn", "ssmax", "temperature"}


def test_every_extension_is_known_to_be_an_identity_or_not() -> None:
    assert set(IDENTITIES) | CHANGES_ALWAYS == set(names())
    for name in sorted(CHANGES_ALWAYS):
        base, x = model(fitting(name)), tokens(TRAIN_LENGTH)
        assert (logits(extended(base, name, TRAIN_LENGTH), x) - logits(base, x)).abs().max() > 1e-4, name


@every_extension
def test_beyond_the_training_length_it_does_something(name: str) -> None:
    base, x = model(fitting(name)), tokens(LONG)
    longer = extended(base, name, LONG)
    if fitting(name) == "learned" or name == "none":
        return
    assert (logits(longer, x) - logits(base, x)).abs().max() > 1e-3


@every_extension
def test_cached_decoding_is_exact_where_the_rule_follows_the_length(name: str) -> None:
    """One layer: its raw keys do not depend on the rule, so the cache must give what the prefix alone gives."""
    longer, x = extended(model(fitting(name), model={"layers": 1}), name, LONG), tokens(TRAIN_LENGTH + 9)
    with torch.no_grad():
        memory = longer.new_cache()
        for t in range(x.shape[1]):
            step = longer(x[:, t : t + 1], cache=memory)[:, 0]
            torch.testing.assert_close(step, logits(longer, x[:, : t + 1])[:, -1], atol=1e-5, rtol=0)
    following = {"dynamic_ntk", "dynamic_yarn", "longrope", "qwen", "qwen_ntk"}
    assert longer.length_dependent == (name in following)


@every_extension
def test_the_config_builds_the_extended_model(name: str) -> None:
    longer, x = extended(model(fitting(name)), name, LONG), tokens(TRAIN_LENGTH)
    again = build(**longer.config).eval()
    again.load_state_dict(longer.state_dict())
    assert torch.equal(logits(again, x), logits(longer, x))
    with torch.device("meta"):
        empty = build(**longer.config)
    assert {k: v.shape for k, v in empty.state_dict().items()} == {k: v.shape for k, v in longer.state_dict().items()}


def test_a_model_that_is_extended_twice_is_a_chain() -> None:
    longer = extended(extended(model(), "ntk", 2 * TRAIN_LENGTH), "pi", LONG)
    assert longer.config["extension"]["name"] == "chain"
    again = build(**longer.config).eval()
    again.load_state_dict(longer.state_dict())
    assert torch.equal(logits(again, tokens(LONG)), logits(longer, tokens(LONG)))


@every_extension
def test_an_extended_model_trains(name: str) -> None:
    network = extended(model(fitting(name)), name, LONG)
    x = tokens(TRAIN_LENGTH if fitting(name) == "learned" else LONG)
    network.loss(x, x.roll(-1, 1)).backward()
    for parameter, p in network.named_parameters():
        assert p.grad is not None, parameter
        assert p.grad.isfinite().all(), parameter
        assert p.grad.abs().max() > 0, parameter


def test_learned_numbers_of_a_trained_encoding_survive() -> None:
    base = model("t5")
    with torch.no_grad():
        base.encodings[0].weight.add_(1.0)
    trained = base.encodings[0].weight.clone()
    for name in ("t5_rescale", "logn", "ssmax", "window"):
        longer = extended(base, name, LONG)
        assert torch.equal(base.encodings[0].weight, trained), name
        assert any(p is base.encodings[0].weight for p in longer.parameters()), name
    new = [p for p in longer.parameters() if id(p) not in {id(q) for q in base.parameters()}]
    assert new == []
    scales = [p for n, p in extended(base, "ssmax", LONG).named_parameters() if n.endswith(".s")]
    assert len(scales) == 2  # one for each layer
    assert all(torch.allclose(s, torch.tensor(1 / math.log(TRAIN_LENGTH))) for s in scales)


# ---------------------------------------------------------------------------------------------- refusals


WRONG = {"pi": "alibi", "ntk": "fope", "yarn": "learned", "rerope": "xpos", "self_extend": "rerope", "drop": "t5"} | {
    "t5_rescale": "alibi",
    "alibi_rescale": "t5",
    "table_interpolation": "sinusoidal",
    "streaming": "nope",
    "resonance_yarn": "kerple_log",
}


@pytest.mark.parametrize(("name", "pe"), WRONG.items())
def test_what_does_not_fit_is_refused_by_name(name: str, pe: str) -> None:
    base = model(pe)
    kind = options(fitting(name))["scheme"] if fitting(name) in names() else fitting(name)
    said = rf"extension={'yarn_code' if name == 'resonance_yarn' else name} .*{pe.split('_')[0]}.*it is for .*{kind}"
    with pytest.raises(ModelError, match=said):
        extended(base, name, LONG)
    with pytest.raises(ModelError, match=said):
        extended(model({"name": "compose", "parts": [pe, "sink"]}), name, LONG)
    with pytest.raises(ModelError, match=said):
        build(VOCABULARY, TRAIN_LENGTH, pe=pe, extension=name, extension_length=LONG)


@pytest.mark.parametrize(
    ("extension", "said"),
    [
        ("yearn", "extension.name=yearn.*Did you mean yarn"),
        ({"name": "ntk", "beta": 3.0}, "extension.beta=3.0: unknown option of ntk"),
        ({"name": "ntk", "factor": 0.5}, "extension.factor=0.5: .*1 or more"),
        ({"name": "ntk", "factor": "four"}, "extension.factor=four: expected float or null"),
        ({"name": "yarn", "alpha": 4.0, "beta": 2.0}, "extension.alpha=4.0 and extension.beta=2"),
        ({"name": "yarn", "ramp": "cosine"}, "extension.ramp=cosine: expected one of rotations, index"),
        ({"name": "dynamic_yarn", "factor": 4.0}, "extension.factor=4.0: a dynamic factor"),
        ({"name": "longrope", "long": [1.0, 2.0]}, r"extension.long=\[1.0, 2.0\]: .*each of the 8 pairs"),
        ({"name": "longrope", "short": [0.0] * 8}, "extension.short=.*positive"),
        ({"name": "window", "size": 0}, "extension.size=0: .*extension.size=128"),
        ({"name": "rerope", "window": 0}, "extension.window=0"),
        ({"name": "self_extend", "group": 0}, "extension.group=0: .*extension.group=8"),
        ({"name": "dual_chunk", "window": 0.9}, "extension.window=0.9: .*extension.size=0.75"),
        ({"name": "streaming", "sinks": 99}, "extension.sinks=99"),
        ({"name": "ntk_mixed", "power": 2.0}, "extension.power=2.0"),
        ({"name": "chain", "parts": []}, r"extension.parts=\[\]"),
        ({"name": "chain", "lengths": [3]}, r"extension.lengths=\[3\]"),
        ({"name": "temperature", "step": 0}, "extension.step=0"),
        ({"name": "logn", "length": 1}, "extension.length=1"),
    ],
    ids=str,
)
def test_bad_options_are_refused_with_a_remedy(extension: str | dict, said: str) -> None:
    with pytest.raises(ModelError, match=f"(?s){said}") as error:
        extended(model(), extension, LONG)
    assert "pe." not in str(error.value)
    assert len(str(error.value).splitlines()) <= 3


@every_extension
def test_a_yaml_names_itself_and_every_option_of_its_class(name: str) -> None:
    yaml = options(name)
    assert yaml["name"] == name
    constructor = inspect.signature(extensions.load(yaml["scheme"]).__init__).parameters.values()
    keywords = [p.name for p in constructor if p.kind is p.KEYWORD_ONLY]
    assert [key for key in yaml if key not in ("name", "scheme")] == keywords
    assert list(extensions.signature(yaml["scheme"])) == keywords
    assert extensions.load(yaml["scheme"]).__doc__


def test_two_extensions_of_one_model_do_not_meet() -> None:
    base, x = model(), tokens(LONG)
    alone = {name: logits(extended(base, name, LONG), x) for name in ("ntk", "pi", "yarn", "rerope")}
    together = {name: extended(base, name, LONG) for name in alone}
    for a, b in itertools.permutations(alone, 2):
        assert torch.equal(logits(together[a], x), alone[a])
        assert not torch.equal(alone[a], alone[b])
