"""Hybrids: which encoding acts in which layer, whose keys a layer sees, and what is shared between layers."""

import pytest
import torch
from seen_keys import context, visible

from model import build
from model.attention.dispatch import attend
from model.attention.logits import LogitsSpec, SharedAcrossLayers
from model.errors import ModelError
from model.pe.base import PositionEncoding
from model.pe.registry import encodings_for
from model.shape import Shape

torch.set_num_threads(1)
LENGTH = 64


def shape(layers: int = 8, length: int = LENGTH) -> Shape:
    return Shape(width=32, heads=4, kv_heads=4, head_dim=8, layers=layers, train_length=length)


def layers_of(pe: str | dict, layers: int = 8, length: int = LENGTH) -> list[PositionEncoding]:
    return encodings_for(shape(layers, length), pe)


def test_layer_l_has_entry_l_of_the_pattern_and_it_repeats() -> None:
    nope, rope, alibi = "Nope", "Rope", "Alibi"
    for pattern, layers, expected in (
        (["rope", "nope"], 4, [rope, nope] * 2),
        (["nope", "rope", "rope"], 6, [nope, rope, rope] * 2),
        (["alibi"], 3, [alibi] * 3),
        (["rope", "alibi", "nope", "alibi"], 4, [rope, alibi, nope, alibi]),
    ):
        got = layers_of({"name": "schedule", "pattern": pattern}, layers)
        assert [type(encoding).__name__ for encoding in got] == expected


def test_equal_entries_share_and_others_do_not() -> None:
    t5, wider = {"name": "t5"}, {"name": "t5", "buckets": 16}
    a, b, c, d = layers_of({"name": "schedule", "pattern": [t5, wider, "t5", "nope"]}, 4)
    assert a is c
    assert a is not d
    assert a is not b
    assert a.weight.shape != b.weight.shape
    own, one, other, same = layers_of({"name": "schedule", "pattern": ["sink", "t5"]}, 4)
    assert one is same
    assert own is not other


def test_a_schedule_costs_what_its_parts_cost() -> None:
    def count(pe: str | dict) -> int:
        return build(50, LENGTH, {"layers": 4, "width": 32, "heads": 4}, pe).parameter_count()

    bare, heads = count("nope"), 4
    assert count({"name": "schedule", "pattern": ["t5", "nope"]}) == bare + 32 * heads
    assert count("gpt_oss") == bare + 4 * heads
    assert count("irope") == count("cohere2") == count("swan") == bare


@pytest.mark.parametrize(
    ("pe", "layers", "said"),
    [
        ("irope", 6, "Try model.layers=8, or a pattern of length 1, 2, 3, 6"),
        ("irope", 2, "Try model.layers=4, or a pattern of length 1, 2"),
        ("gemma2", 3, "pe.pattern has 2 entries"),
        ({"name": "schedule", "pattern": []}, 4, "needs at least one"),
        ({"name": "schedule", "pattern": ["sinusoidal", "nope"]}, 4, "sinusoidal is added to the embedding"),
        ({"name": "schedule", "pattern": ["rope", "nop"]}, 4, "Did you mean nope"),
        ({"name": "schedule", "pattern": "rope"}, 4, "pe.pattern=rope: expected a list"),
        ({"name": "window", "size": 1.5}, 4, "pe.size=1.5"),
        ({"name": "window", "size": 0}, 4, "pe.size=0"),
        ({"name": "chunk", "size": -0.5}, 4, "pe.size=-0.5"),
    ],
)
def test_what_cannot_be_is_answered(pe, layers: int, said: str) -> None:
    with pytest.raises(ModelError) as refusal:
        layers_of(pe, layers)
    assert said in str(refusal.value)
    assert len(str(refusal.value).splitlines()) <= 3


def test_an_absolute_code_goes_beside_a_schedule() -> None:
    parts = ["sinusoidal", {"name": "schedule", "pattern": [{"name": "window", "size": 8}, "nope"]}]
    both = {"name": "compose", "parts": parts}
    assert [layer.window_size() for layer in layers_of(both, 4)] == [8, None, 8, None]
    network = build(50, LENGTH, {"layers": 4, "width": 32, "heads": 4}, both).eval()
    assert [type(component).__name__ for component in network.components()].count("Sinusoidal") == 1


def test_sizes_are_keys_or_shares_of_the_training_length() -> None:
    for scheme in ("window", "chunk"):
        for length in (64, 100, 8192):
            options = [{"name": scheme, "size": size} for size in (None, 0.25, 0.001, 1, 7)]
            sizes = [layers_of(option, 4, length)[0].window_size() for option in options]
            assert sizes == [length, length // 4, max(1, round(length / 1000)), 1, 7]


def test_a_window_and_a_block_hide_exactly_the_rest() -> None:
    i, j = torch.arange(40)[:, None], torch.arange(40)
    for size in (1, 3, 16, 40, 100):
        window, chunk = (layers_of({"name": name, "size": size}, 4)[0] for name in ("window", "chunk"))
        assert torch.equal(visible(window, 40)[0], (j <= i) & (i - j < size))
        assert torch.equal(visible(chunk, 40)[0], (j <= i) & (i // size == j // size))


@pytest.mark.parametrize("pe", ["mistral", "rope_window", "swan", "irope", "gpt_oss", "chunk"])
def test_information_travels_no_further_than_the_masks_let_it(pe: str) -> None:
    network = build(50, 16, {"layers": 4, "width": 32, "heads": 4, "tie": False}, {"name": pe}).eval()
    n = 40
    reachable = torch.eye(n, dtype=torch.bool)
    for which in network.encoding_of_layer:
        reachable = (visible(network.encodings[which], n)[0].float() @ reachable.float()) > 0
    embedding = torch.randn(1, n, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    network.embedding.forward = lambda tokens: embedding
    out = network.hidden(torch.zeros(1, n, dtype=torch.int64)).sum(-1)[0]
    reached = torch.stack([torch.autograd.grad(o, embedding, retain_graph=True)[0].abs().sum(-1)[0] > 0 for o in out])
    assert torch.equal(reached, reachable)


def test_a_sink_is_one_more_key_without_a_value() -> None:
    sink = layers_of("sink", 2)[0]
    with torch.no_grad():
        sink.logit.copy_(torch.tensor([-1.0, 0.0, 2.0, 30.0]))
    q, k, v = torch.randn(3, 2, 4, 9, 8, generator=torch.Generator().manual_seed(0))
    there = context(9)
    spec = LogitsSpec(sink, there, SharedAcrossLayers(), {}, 8**-0.5)
    for kernel in ("dense", "chunked"):
        out = attend(q, k, v, spec, kernel)
        for b, h, i in ((0, 0, 0), (1, 2, 8), (0, 1, 4), (1, 3, 5)):
            scores = [float(q[b, h, i] @ k[b, h, j]) / 8**0.5 for j in range(i + 1)]
            total = sum(2.718281828459045**s for s in [*scores, sink.logit[h].item()])
            expected = sum(2.718281828459045**s / total * v[b, h, j] for j, s in enumerate(scores))
            assert torch.allclose(out[b, h, i], expected, atol=1e-6)
    assert out[:, 3].abs().max() < 1e-9  # nothing is left of the head whose sink is far above


def test_a_part_of_several_compositions_is_listed_once() -> None:
    """One T5 table for all layers beside a scale of each layer's own: names of parameters are names of tensors."""
    options = {"layers": 4, "width": 32, "heads": 4}
    pe = {"name": "compose", "parts": ["t5", "ssmax"]}
    chain = {"name": "chain", "parts": ["t5_rescale", "ssmax"]}
    for model, scales in (
        (build(40, LENGTH, options, pe), 4),
        (build(40, LENGTH, options, "t5", extension="ssmax", extension_length=4 * LENGTH), 4),
        (build(40, LENGTH, options, pe, extension=chain, extension_length=4 * LENGTH), 8),
    ):
        names = [name for name, _ in model.named_parameters()]
        assert list(model.state_dict()) == names
        assert sum("encodings" in name for name in names) == 1 + scales
