"""The codes that are added to embeddings, against loops, written-out numbers and the worked examples of tutorials."""

import math

import pytest
import torch
from one_layer import HEAD_DIM, HEADS, TRAIN_LENGTH, WIDTH, Layer, encoding_of
from torch import Tensor

from model import build
from model.errors import ModelError
from model.pe.base import Context, PositionEncoding, scaled_scores
from model.pe.registry import encodings_for
from model.pe.sinusoidal import Sinusoidal, sinusoids
from model.registry import Part
from model.shape import Shape


def context(positions: list[int] | Tensor, queries: int | None = None, total: int | None = None) -> Context:
    positions = torch.as_tensor(positions).reshape(1, -1)
    n = positions.shape[1]
    return Context(positions, queries or n, TRAIN_LENGTH, total or n, contiguous=False)


def added(encoding: PositionEncoding, positions: list[int], **more: int) -> list[list[float]]:
    """What the encoding makes of embeddings that are zero: its code of each position."""
    here = context(positions, **more)
    return encoding.embed(torch.zeros(1, here.queries, encoding.shape.width), here)[0].tolist()


def sinusoidal(width: int, layout: str = "interleaved") -> Sinusoidal:
    """The code alone, of any width."""
    return encodings_for(Shape(width, 1, 1, width, 1, TRAIN_LENGTH), {"name": "sinusoidal", "layout": layout})[0]


# --- sinusoids


@pytest.mark.parametrize("layout", ["interleaved", "concatenated"])
def test_sinusoids(layout: str) -> None:
    positions = [0, 1, 2, 15, 16, 1000, 100_003]
    for position, row in zip(
        positions, added(encoding_of({"name": "sinusoidal", "layout": layout}), positions), strict=True
    ):
        for c in range(WIDTH // 2):
            angle = position / 10000 ** (2 * c / WIDTH)
            sine, cosine = (2 * c, 2 * c + 1) if layout == "interleaved" else (c, WIDTH // 2 + c)
            assert row[sine] == pytest.approx(math.sin(angle), abs=1e-6)
            assert row[cosine] == pytest.approx(math.cos(angle), abs=1e-6)


def test_embeddings_are_scaled_up_to_the_size_of_the_sinusoids() -> None:
    x = torch.randn(1, 3, WIDTH)
    encoding = encoding_of("sinusoidal")
    code = torch.tensor(added(encoding, [4, 5, 6]))
    assert torch.allclose(encoding.embed(x, context([4, 5, 6])), x * math.sqrt(WIDTH) + code, atol=1e-6)


def test_three_words_at_width_512() -> None:
    """The example of the tutorials, to the four digits they print."""
    code = sinusoidal(512).code(torch.arange(3))
    assert code[0].tolist() == [0.0, 1.0] * 256
    assert code[1, :4].tolist() == pytest.approx([0.8415, 0.5403, 0.8219, 0.5697], abs=5e-5)
    assert code[2, :2].tolist() == pytest.approx([0.9093, -0.4161], abs=5e-5)


def test_sixty_positions_of_width_32() -> None:
    """Zero embeddings come out as the code; fast columns turn like low bits of a counter, slow ones like high bits."""
    code = torch.tensor(added(sinusoidal(32), list(range(60))))
    assert torch.equal(code, sinusoidal(32).code(torch.arange(60)))
    turns = [(column[1:] * column[:-1] < 0).sum().item() for column in code.T[1::2]]  # sign changes of the cosines
    assert turns == sorted(turns, reverse=True)
    assert (turns[0], turns[-1]) == (19, 0)  # 60 / pi, and less than a quarter of a turn


def test_wavelengths_go_from_two_pi_to_ten_thousand_times_that() -> None:
    code = sinusoids(torch.arange(200_000), 128)
    fast, slow = code[:, 0], code[:, 63]
    assert ((fast[:-1] < 0) & (fast[1:] >= 0)).sum() == math.floor(199_999 / (2 * math.pi))
    longest = 2 * math.pi * 10000 ** (126 / 128)
    assert slow.argmax().item() == pytest.approx(longest / 4, rel=1e-3)


def test_a_shift_is_a_rotation_that_does_not_depend_on_the_position() -> None:
    """PE(t + s) = M_s PE(t), with 2 x 2 blocks [[cos ws, sin ws], [-sin ws, cos ws]] on (sin wt, cos wt)."""
    code = sinusoidal(WIDTH).code(torch.arange(300)).double()
    for shift in (1, 7, 100):
        matrix = torch.zeros(WIDTH, WIDTH, dtype=torch.float64)
        for c in range(WIDTH // 2):
            a = shift / 10000 ** (2 * c / WIDTH)
            matrix[2 * c : 2 * c + 2, 2 * c : 2 * c + 2] = torch.tensor(
                [[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]]
            )
        assert (code[:200] @ matrix.T - code[shift : 200 + shift]).abs().max() < 1e-6


def test_dot_products_are_symmetric_in_the_offset_and_mostly_do_not_decay() -> None:
    """kappa(n) = mean of cos(n w_c), d = 128: .970 .669 .477 .159 at 1, 10, 100, 1000, and half of its steps go up."""
    code = sinusoidal(128).code(torch.arange(4096)).double()
    kappa = code @ code[0] / 64
    assert kappa[[1, 10, 100, 1000]].tolist() == pytest.approx([0.970, 0.669, 0.477, 0.159], abs=5e-4)
    assert kappa.min() == pytest.approx(-0.13, abs=0.005)
    assert (kappa[1:] > kappa[:-1]).double().mean() == pytest.approx(0.486, abs=0.001)
    assert torch.allclose(code[2000:2050] @ code[2050], (code[2051:2101] @ code[2050]).flip(0), atol=1e-4)


def test_layouts_are_a_permutation_of_channels() -> None:
    a, b = (
        torch.tensor(added(encoding_of({"name": "sinusoidal", "layout": x}), [3, 9]))
        for x in ("interleaved", "concatenated")
    )
    assert not torch.equal(a, b)
    assert torch.equal(torch.cat((a[:, 0::2], a[:, 1::2]), 1), b)


# --- learned tables and counters


def test_learned() -> None:
    encoding = encoding_of({"name": "learned", "rows": 20})
    rows = encoding.rows.tolist()
    assert added(encoding, [0, 19, 7, 7]) == [rows[0], rows[19], rows[7], rows[7]]
    assert added(encoding, [3, 4, 5, 6], queries=2) == [rows[5], rows[6]]  # the queries are the last tokens
    with pytest.raises(ModelError, match=r"pe\.rows=8: .*\nTry pe\.rows=16"):
        encoding_of({"name": "learned", "rows": 8})


def test_one_hot_is_the_learned_table_written_differently() -> None:
    one_hot, learned = encoding_of("one_hot"), encoding_of("learned")
    with torch.no_grad():
        learned.rows.copy_(one_hot.weight.T)
    x = torch.randn(2, TRAIN_LENGTH, WIDTH)
    here = context(list(range(TRAIN_LENGTH)))
    assert torch.equal(one_hot.embed(x, here), learned.embed(x, here))


def test_models_with_one_hot_and_learned_positions_are_equal() -> None:
    shape, x = {"layers": 2, "width": WIDTH, "heads": HEADS}, torch.randint(50, (2, TRAIN_LENGTH))
    one_hot, learned = (build(50, TRAIN_LENGTH, shape, pe) for pe in ("one_hot", "learned"))
    with torch.no_grad():
        learned.encodings[0].rows.copy_(one_hot.encodings[0].weight.T)
    assert torch.equal(one_hot(x), learned(x))


def test_index_grows_without_bound() -> None:
    encoding = encoding_of("index")
    w = encoding.direction.tolist()
    for position, row in zip([0, 1, 1000], added(encoding, [0, 1, 1000]), strict=True):
        assert row == pytest.approx([position * x for x in w], rel=1e-6)


def test_normalised_depends_on_how_much_follows() -> None:
    encoding = encoding_of("normalised")
    w = encoding.direction.tolist()
    for total in (4, 40):
        rows = added(encoding, [0, 1, 2, 3], total=total)
        for position, row in enumerate(rows):
            assert row == pytest.approx([position / (total - 1) * x for x in w], rel=1e-6)
    assert added(encoding, [0], total=1) == [[0.0] * WIDTH]  # not 0 / 0


def test_binary_counts() -> None:
    encoding = encoding_of({"name": "binary", "bits": 5})
    weight = encoding.weight.tolist()
    assert encoding.code(torch.tensor([6])).tolist() == [[-1, 1, 1, -1, -1]]  # 00110, lowest first
    for position, row in zip([0, 7, 8, 31], added(encoding, [0, 7, 8, 31]), strict=True):
        bits = [1 if position // 2**c % 2 else -1 for c in range(5)]
        assert row == pytest.approx(
            [sum(w * bit for w, bit in zip(weights, bits, strict=True)) for weights in weight], abs=1e-6
        )
    flips = (encoding.code(torch.tensor([7])) != encoding.code(torch.tensor([8]))).sum()
    assert flips == 4  # neighbours, and all but the highest bit differ


# --- what tutorials show with numbers


def scores_of_the_middle(words: Tensor) -> list[float]:
    """The logits of the middle one of three words to the first and to the last, not scaled."""
    logits = scaled_scores(words[None, None], words[None, None], 1.0)
    return logits[0, 0, 1, 0::2].tolist()


def test_i_love_you_and_you_love_me() -> None:
    """Without positions the middle word's scores do not tell who loves whom; with codes added they do."""
    me, love, you = [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]
    shape = Shape(2, 1, 1, 2, 1, 3)
    table = encodings_for(shape, "learned")[0]
    with torch.no_grad():
        table.rows.copy_(torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]))
        loving, loved = (torch.tensor(words) for words in ([me, love, you], [you, love, me]))
        with_codes = [table.embed(words[None], context([0, 1, 2]))[0] for words in (loving, loved)]
    assert scores_of_the_middle(loving) == scores_of_the_middle(loved) == [0.0, 0.0]
    assert torch.allclose(with_codes[0], torch.tensor([[1.1, 0.2], [0.3, 1.4], [0.5, 0.6]]))
    assert scores_of_the_middle(with_codes[0]) == pytest.approx([0.61, 0.99])
    assert scores_of_the_middle(with_codes[1]) == pytest.approx([0.31, 1.29])
    layer = Layer.random(length=2)
    layer.q = layer.k  # the product of attention is the same dot product, scaled
    expected = torch.softmax((layer.q[:, :, 1:] * layer.k).sum(-1) / math.sqrt(HEAD_DIM), -1)
    assert torch.allclose(layer.run(encoding_of("nope"), "dense")[:, :, 1], expected, atol=1e-6)


def test_a_causal_mask_makes_order_visible() -> None:
    order, layer = torch.randperm(9), Layer.random(length=9).with_values()
    before = layer.run(encoding_of("nope"), "dense")
    layer.q, layer.k, layer.v = (y[:, :, order] for y in (layer.q, layer.k, layer.v))
    after = layer.run(encoding_of("nope"), "dense")
    assert (after - before[:, :, order]).abs().max() > 0.1
    last = (order == 8).nonzero().item()  # the token that saw all others before
    layer.q, layer.k, layer.v = (
        torch.cat((y[:, :, torch.arange(9) != last], y[:, :, [last]]), 2) for y in (layer.q, layer.k, layer.v)
    )
    assert torch.allclose(
        layer.run(encoding_of("nope"), "dense")[:, :, -1], before[:, :, -1], atol=1e-6
    )  # what, not where


def test_nope_counts_from_a_distinct_first_token_and_from_nothing_else() -> None:
    model = build(50, TRAIN_LENGTH, {"layers": 2, "width": WIDTH, "heads": HEADS, "tie": False}, "nope").eval()
    same = torch.full((1, TRAIN_LENGTH), 3)
    begun = same.clone()
    begun[0, 0] = 4
    with torch.no_grad():
        constant, counted = model(same)[0], model(begun)[0, 1:]
    assert (constant - constant[:1]).abs().max() < 1e-5
    assert (counted[1:] - counted[:-1]).abs().amax(-1).min() > 1e-4  # every position is different


PARTS: list[Part] = ["sinusoidal", "sinusoidal_concatenated", "learned", "one_hot", "index", "normalised", "binary"]


@pytest.mark.parametrize("pe", PARTS)
def test_codes_leave_attention_alone(pe: Part) -> None:
    layer = Layer.random(length=TRAIN_LENGTH).with_values()
    assert torch.equal(layer.run(encoding_of(pe), "dense"), layer.run(encoding_of("nope"), "dense"))
