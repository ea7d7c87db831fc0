"""The biases that depend on positions alone, against loops written from the papers."""

import math

import pytest
import slow_biases as slow
import torch
from one_layer import HEAD_DIM, HEADS, LENGTH, TRAIN_LENGTH, WIDTH, Layer, dot, encoding_of, products, worst
from torch import nn

from model.errors import ModelError
from model.pe.base import Context, PositionEncoding

CLOSE = 2e-6


def difference(encoding: PositionEncoding, bias: slow.Bias, heads: int = HEADS, share: float = 1.0) -> float:
    """Worst attention weight over contiguous positions and positions with gaps. share: multiplies q k / sqrt(d)."""
    results = []
    for gaps in (False, True):
        layer = Layer.random(heads, gaps=gaps)
        content, at = products(layer), layer.positions[0].tolist()

        def logit(b: int, h: int, i: int, j: int, content=content, at=at) -> float:
            return share * content(b, h, i, j) + bias(h, at[i], at[j])

        results.append(worst(layer, encoding, logit))
    return max(results)


@pytest.mark.parametrize("heads", slow.SLOPES)
def test_alibi(heads: int) -> None:
    assert difference(encoding_of("alibi", heads), slow.alibi(heads), heads) < CLOSE


def test_alibi_goes_down_with_distance() -> None:
    """Without content a nearer key has the larger weight: the sign of the bias is what all structural tests miss."""
    layer = Layer.random()
    layer.q = torch.zeros_like(layer.q)
    for name in ("alibi", "kerple_log", "kerple_power", "sandwich"):
        last = layer.run(encoding_of(name, moved=0.0), "chunked")[0, :, -1]
        assert (last[:, -1] > last[:, -2]).all(), name
        assert (last[:, -2] > last[:, 0]).all(), name


def test_alibi_learned() -> None:
    encoding = encoding_of("alibi_learned", moved=0.0)
    assert difference(encoding, slow.alibi(HEADS)) < CLOSE  # it starts as ALiBi
    with torch.no_grad():
        encoding.log_slopes.add_(torch.tensor([0.5, -1.0, 2.0, 0.0]))
    factor = [math.exp(x) for x in (0.5, -1.0, 2.0, 0.0)]
    assert difference(encoding, lambda h, i, j: -slow.SLOPES[4][h] * factor[h] * (i - j)) < CLOSE


def test_alibi_half() -> None:
    slopes = [2.0**-4, 2.0**-8, 0.0, 0.0]  # those of a model of two heads, then none
    assert difference(encoding_of("alibi_half"), lambda h, i, j: -slopes[h] * (i - j)) < CLOSE
    with pytest.raises(ModelError, match=r"pe\.share=0\.3 .*\nTry pe\.share=0\.25"):
        encoding_of({"name": "alibi_half", "share": 0.3})


def test_t5() -> None:
    for pe, buckets, largest in (({"name": "t5", "buckets": 8}, 8, TRAIN_LENGTH), ("t5_128", 32, 128)):
        encoding = encoding_of(pe)
        assert difference(encoding, slow.t5(encoding, buckets, largest)) < CLOSE
    bucket = encoding.bucket(200).tolist()
    assert [bucket[d] for d in (0, 1, 15, 16, 32, 64, 112, 113, 128, 199)] == [0, 1, 15, 16, 21, 26, 30, 31, 31, 31]


@pytest.mark.parametrize(("name", "reference"), [("kerple_log", slow.kerple_log), ("kerple_power", slow.kerple_power)])
def test_kerple(name: str, reference) -> None:
    for moved in (0.0, 0.3, 3.0):  # far enough for the floor of both and the ceiling of p
        encoding = encoding_of(name, moved=moved)
        assert difference(encoding, reference(encoding)) < CLOSE


@pytest.mark.target("`sandwich`", "the closed form, summed in Python floats", "attention weights", limit=2e-6)
@pytest.mark.parametrize("dims", [2, 16, 128])
def test_sandwich(dims: int, agree) -> None:
    apart = difference(encoding_of({"name": "sandwich", "dims": dims}), slow.sandwich(HEADS, dims))
    agree(torch.tensor(apart), torch.tensor(0.0))


def test_toeplitz() -> None:
    encoding = encoding_of("toeplitz")
    assert encoding.weight.shape == (TRAIN_LENGTH // 2 + 1, HEADS)
    assert difference(encoding, slow.toeplitz(encoding)) < CLOSE


@pytest.mark.parametrize("name", ["mlp_bias", "mlp_bias_log"])
def test_mlp_bias(name: str) -> None:
    encoding = encoding_of(name)
    assert difference(encoding, slow.mlp_bias(encoding, name == "mlp_bias_log")) < CLOSE


@pytest.mark.parametrize("threshold", [None, 3, 100])
def test_fire(threshold: int | None) -> None:
    encoding = encoding_of({"name": "fire", "threshold": threshold})
    assert difference(encoding, slow.fire(encoding, threshold or TRAIN_LENGTH // 2)) < CLOSE
    with torch.no_grad():
        encoding.c.neg_()  # the formula takes absolute values
        encoding.m.neg_()
    assert difference(encoding, slow.fire(encoding, threshold or TRAIN_LENGTH // 2)) < CLOSE


def test_lines_of_fire_are_its_network() -> None:
    """Values and gradients, also of units that are always on, always off, or do not look at the distance."""
    encoding = encoding_of("fire")
    with torch.no_grad():
        encoding.hidden.weight[:6] = torch.tensor([[0.0], [0.0], [0.0], [-1.0], [1e-30], [2.0]])
        encoding.hidden.bias[:6] = torch.tensor([1.0, -1.0, 0.0, 0.5, 1.0, -1.0])
    x = torch.rand(1, 5, 400, generator=torch.Generator().manual_seed(0)).requires_grad_()
    plain = nn.Sequential(encoding.hidden, nn.ReLU(), encoding.out)(x[..., None]).movedim(-1, 1)
    lines = encoding.network(x, *encoding.pieces())
    assert (lines - plain).abs().max() < CLOSE
    inputs, weight = [x, *encoding.hidden.parameters(), encoding.out.weight], torch.randn(plain.shape)
    ours, theirs = (torch.autograd.grad((y * weight).sum(), inputs) for y in (lines, plain))
    for one, two in zip(ours, theirs, strict=True):
        assert (one - two).abs().max() < 1e-4 * two.abs().max()


def test_fire_depends_on_where_the_query_is() -> None:
    encoding, layer = encoding_of("fire"), Layer.random()
    here = layer.run(encoding, "chunked")
    layer.positions = layer.positions + 1000
    assert (layer.run(encoding, "chunked") - here).abs().max() > 1e-3


def sinusoid(position: int) -> list[float]:
    angles = [position / 10000 ** (2 * c / WIDTH) for c in range(WIDTH // 2)]
    return [math.sin(a) for a in angles] + [math.cos(a) for a in angles]


def normal(row: list[float]) -> list[float]:
    mean = sum(row) / len(row)
    variance = sum((x - mean) ** 2 for x in row) / len(row)
    return [(x - mean) / math.sqrt(variance + 1e-5) for x in row]


@pytest.mark.parametrize("name", ["tupe", "tupe_learned", "tupe_t5"])
def test_tupe(name: str) -> None:
    encoding = encoding_of(name)
    learned = slow.numbers(encoding)
    own = "parts.0." if name == "tupe_t5" else ""
    relative = slow.t5(encoding.members[1], 32, max(32, TRAIN_LENGTH)) if name == "tupe_t5" else lambda h, i, j: 0.0

    def projected(matrix: str, h: int, position: int) -> list[float]:
        code = sinusoid(position) if name != "tupe_learned" else normal(learned["codes"][position])
        rows = learned[own + matrix]
        return [sum(code[w] * rows[w][h][c] for w in range(WIDTH)) for c in range(HEAD_DIM)]

    def bias(h: int, i: int, j: int) -> float:
        together = dot(projected("u_q", h, i), projected("u_k", h, j))
        return together / math.sqrt(2 * HEAD_DIM) + relative(h, i, j)

    layer = Layer.random(length=TRAIN_LENGTH)  # the learned code ends there
    content = products(layer)
    cached = {(h, i, j): bias(h, i, j) for h in range(HEADS) for i in range(TRAIN_LENGTH) for j in range(i + 1)}
    assert worst(layer, encoding, lambda b, h, i, j: content(b, h, i, j) / math.sqrt(2) + cached[h, i, j]) < CLOSE


def test_nope_is_plain_attention() -> None:
    assert difference(encoding_of("nope"), lambda h, i, j: 0.0) < CLOSE


def test_groups_of_heads_read_their_own_key() -> None:
    layer = Layer.random(kv_heads=2)
    content, slopes = products(layer), slow.alibi(HEADS)
    encoding = encoding_of("alibi", kv_heads=2)
    assert worst(layer, encoding, lambda b, h, i, j: content(b, h, i, j) + slopes(h, i, j)) < CLOSE


TABLES = [
    "alibi",
    "alibi_learned",
    "t5",
    "kerple_log",
    "kerple_power",
    "sandwich",
    "toeplitz",
    "mlp_bias",
    "mlp_bias_log",
]


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_float32_and_longer_ones_begin_like_shorter_ones(name: str) -> None:
    encoding = encoding_of(name).bfloat16()
    table = encoding.table(LENGTH)
    assert table.dtype == torch.float32
    assert table.shape == (HEADS, LENGTH)
    if name in ("alibi", "alibi_learned", "kerple_log", "kerple_power", "sandwich"):
        assert table[:, 0].tolist() == [0.0] * HEADS
    assert torch.allclose(encoding.table(LENGTH + 50)[:, :LENGTH], table, rtol=1e-6, atol=1e-6)


def test_far_distances_stay_distinct() -> None:
    """In bfloat16 most neighbours past 256 collide; here the bias of neighbours far away differs by one slope."""
    table = encoding_of("alibi").table(100_001)
    steps = (table[:, 1:] - table[:, :-1]).double()
    slopes = torch.tensor(slow.SLOPES[4], dtype=torch.float64)[:, None]
    assert (steps / -slopes - 1).abs().max() < 1e-3


def test_every_encoding_has_as_many_parameters_as_its_formula() -> None:
    sizes = {
        "alibi": 0,
        "alibi_learned": HEADS,
        "t5_128": 32 * HEADS,
        "kerple_log": 2 * HEADS,
        "sandwich": 0,
        "toeplitz": 9 * HEADS,
        "fire": 32 + 32 + 32 * HEADS + 2,
        "mlp_bias": 64 + 32 * 33 + 32 * HEADS,
        "tupe": 2 * WIDTH * WIDTH,
        "tupe_learned": 2 * WIDTH * WIDTH + TRAIN_LENGTH * WIDTH,
        "shaw": 2 * 17 * HEAD_DIM,
        "transformer_xl": WIDTH * WIDTH + 2 * WIDTH,
        "deberta": 8 * WIDTH + 2 * WIDTH * WIDTH,
        "cope": 64 * HEAD_DIM,
        "fox": (WIDTH + 1) * HEADS,
        "cable": (WIDTH + 1) * HEADS,
        "dape_alibi": 2 * HEADS * 32 + 32 + 32 * HEADS,
        "inkling": (WIDTH + 1) * HEADS * 16 + 16 * TRAIN_LENGTH,
        "path": 32 * WIDTH + 32 * WIDTH + 3 * WIDTH + (WIDTH + 1) * HEADS,
        "selective_rope": (WIDTH + 1) * HEADS * HEAD_DIM // 2,
    }
    assert {name: sum(p.numel() for p in encoding_of(name).parameters()) for name in sizes} == sizes


def test_how_the_queries_are_cut_does_not_matter() -> None:
    layer = Layer.random()
    for name in ("fire", "tupe", "inkling", "fox"):
        encoding = encoding_of(name)
        whole = layer.run(encoding, "dense")
        for chunk in (1, 5, LENGTH):
            assert (layer.run(encoding, "chunked", chunk) - whole).abs().max() < CLOSE, (name, chunk)


def test_span_counts_distances() -> None:
    positions = torch.tensor([[3, 4, 9], [0, 2, 5]])
    assert Context(positions, 3, 16, 3, contiguous=False).span == 10
    assert Context(positions[:1] * 0, 3, 16, 3, contiguous=True).span == 3
