"""What holds for every extension: on a copy, only where it applies, nothing where there is nothing to extend."""

import inspect
import itertools
import math

import pytest
import torch
from extended_models import LONG, every_extension, fitting, layers, logits, model, tokens
from rotary_reference import TRAIN_LENGTH

from model import build
from model.extension.base import extended
from model.extension.registry import extensions, names, options
from model.pe.registry import schemes
from model.registry import Part


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
    for_all = {"window", "logn", "ssmax", "head_scale", "temperature"}
    everywhere = name in for_all or "logn" in str(longer.config["extension"])
    assert kept == [False, chosen == "scheduled" and not everywhere]


@every_extension
def test_layers_that_shared_an_encoding_go_on_sharing_one(name: str) -> None:
    longer = extended(model(fitting(name)), name, LONG)
    assert longer.encoding_of_layer == ([0, 1] if name in ("ssmax", "head_scale") else [0, 0])


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


CHANGES_ALWAYS = {"drop", "dual_chunk", "rerope", "rerope_logn", "resonance", "resonance_yarn"}
CHANGES_ALWAYS |= {"ssmax", "head_scale", "temperature"}


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


@every_extension
def test_a_yaml_names_itself_and_every_option_of_its_class(name: str) -> None:
    yaml = options(name)
    assert yaml["name"] == name
    constructor = inspect.signature(extensions.load(yaml["scheme"]).__init__).parameters.values()
    keywords = [p.name for p in constructor if p.kind is p.KEYWORD_ONLY]
    if any(p.kind is p.VAR_KEYWORD for p in constructor):
        part = inspect.signature(schemes.load(yaml["part"]).__init__).parameters.values()
        keywords += [p.name for p in part if p.kind is p.KEYWORD_ONLY and p.annotation != Part]
    assert [key for key in yaml if key not in ("name", "scheme")] == keywords
    assert list(extensions.signature(yaml["scheme"], yaml.get("part"))) == keywords
    assert extensions.load(yaml["scheme"]).__doc__


def test_two_extensions_of_one_model_do_not_meet() -> None:
    base, x = model(), tokens(LONG)
    alone = {name: logits(extended(base, name, LONG), x) for name in ("ntk", "pi", "yarn", "rerope")}
    together = {name: extended(base, name, LONG) for name in alone}
    for a, b in itertools.permutations(alone, 2):
        assert torch.equal(logits(together[a], x), alone[a])
        assert not torch.equal(alone[a], alone[b])
