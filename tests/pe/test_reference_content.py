"""The encodings that look at content, against loops written from the papers, and the limits where they are others."""

import math

import pytest
import slow_biases as slow
import torch
from one_layer import (
    BATCH,
    HEAD_DIM,
    HEADS,
    LENGTH,
    TRAIN_LENGTH,
    WIDTH,
    Layer,
    Logit,
    dot,
    encoding_of,
    products,
    weights_of,
    worst,
)

from model.pe.base import PositionEncoding

CLOSE = 3e-6
Vector = list[float]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def plus(a: Vector, b: Vector) -> Vector:
    return [x + y for x, y in zip(a, b, strict=True)]


def mapped(x: Vector, weight: list[Vector], offset: Vector) -> Vector:
    """A linear layer."""
    return [dot(row, x) + b for row, b in zip(weight, offset, strict=True)]


def both(encoding: PositionEncoding, logit_of) -> float:
    """Worst attention weight over contiguous positions and positions with gaps. logit_of(layer, positions) -> Logit."""
    layers = [Layer.random(), Layer.random(gaps=True)]
    return max(worst(layer, encoding, logit_of(layer, layer.positions[0].tolist())) for layer in layers)


def test_shaw_keys() -> None:
    encoding = encoding_of({"name": "shaw_keys", "max_distance": 5})
    a = slow.numbers(encoding)["a"]

    def logit_of(layer: Layer, at: list[int]) -> Logit:
        q, k = layer.q.tolist(), layer.k.tolist()
        return lambda b, h, i, j: dot(q[b][h][i], plus(k[b][h][j], a[min(at[i] - at[j], 5)])) / math.sqrt(HEAD_DIM)

    assert both(encoding, logit_of) < CLOSE


def test_shaw_values() -> None:
    encoding = encoding_of({"name": "shaw", "max_distance": 5})
    learned, layer = slow.numbers(encoding), Layer.random(gaps=True).with_values()
    q, k, v, at = layer.q.tolist(), layer.k.tolist(), layer.v.tolist(), layer.positions[0].tolist()

    def logit(b: int, h: int, i: int, j: int) -> float:
        return dot(q[b][h][i], plus(k[b][h][j], learned["a"][min(at[i] - at[j], 5)])) / math.sqrt(HEAD_DIM)

    weights = weights_of(layer, logit).tolist()
    expected = torch.zeros(BATCH, HEADS, LENGTH, HEAD_DIM, dtype=torch.float64)
    for b in range(BATCH):
        for h in range(HEADS):
            for i in range(LENGTH):
                for j in range(i + 1):
                    value = plus(v[b][h][j], learned["b"][min(at[i] - at[j], 5)])
                    expected[b, h, i] += weights[b][h][i][j] * torch.tensor(value, dtype=torch.float64)
    for kernel in ("dense", "chunked"):
        assert (layer.run(encoding, kernel) - expected).abs().max() < CLOSE


def test_transformer_xl() -> None:
    encoding = encoding_of("transformer_xl")
    learned = slow.numbers(encoding)

    def projected(distance: int) -> list[Vector]:
        """W_R R, for every head."""
        angles = [distance / 10000 ** (2 * c / WIDTH) for c in range(WIDTH // 2)]
        code = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        w = learned["w_r"]
        return [[sum(code[e] * w[e][h][c] for e in range(WIDTH)) for c in range(HEAD_DIM)] for h in range(HEADS)]

    table = [projected(distance) for distance in range(3 * LENGTH)]

    def logit_of(layer: Layer, at: list[int]) -> Logit:
        q, k = layer.q.tolist(), layer.k.tolist()

        def logit(b: int, h: int, i: int, j: int) -> float:
            content = dot(plus(q[b][h][i], learned["u"][h]), k[b][h][j])
            position = dot(plus(q[b][h][i], learned["v"][h]), table[at[i] - at[j]][h])
            return (content + position) / math.sqrt(HEAD_DIM)

        return logit

    assert both(encoding, logit_of) < CLOSE


@pytest.mark.parametrize("size", [None, 3])
def test_deberta(size: int | None) -> None:
    encoding = encoding_of({"name": "deberta", "size": size})
    learned, rows = slow.numbers(encoding), size or TRAIN_LENGTH // 2

    def projected(matrix: str, row: int, h: int) -> Vector:
        p, w = learned["rows"][row], learned[matrix]
        return [sum(p[e] * w[e][h][c] for e in range(WIDTH)) for c in range(HEAD_DIM)]

    keys, queries = ([[projected(w, row, h) for h in range(HEADS)] for row in range(rows)] for w in ("w_k", "w_q"))

    def logit_of(layer: Layer, at: list[int]) -> Logit:
        q, k = layer.q.tolist(), layer.k.tolist()

        def logit(b: int, h: int, i: int, j: int) -> float:
            row = min(at[i] - at[j], rows - 1)
            to_position = dot(q[b][h][i], keys[row][h])
            to_content = dot(k[b][h][j], queries[row][h])
            return (dot(q[b][h][i], k[b][h][j]) + to_position + to_content) / math.sqrt(3 * HEAD_DIM)

        return logit

    assert both(encoding, logit_of) < CLOSE


@pytest.mark.parametrize("size", [4, 64])
def test_cope(size: int) -> None:
    """With size 4 most counts are cut off at 3."""
    encoding = encoding_of({"name": "cope", "size": size})
    e = slow.numbers(encoding)["rows"]

    def logit_of(layer: Layer, at: list[int]) -> Logit:
        content, q = products(layer), layer.q.tolist()

        def logit(b: int, h: int, i: int, j: int) -> float:
            count = min(sum(sigmoid(content(b, h, i, t)) for t in range(j, i + 1)), size - 1)
            low, high = math.floor(count), math.ceil(count)
            reads = [dot(q[b][h][i], e[place]) for place in (low, high)]
            return content(b, h, i, j) + reads[0] * (1 - (count - low)) + reads[1] * (count - low)

        return logit

    assert both(encoding, logit_of) < CLOSE


def forgotten(encoding: PositionEncoding, layer: Layer, log_gate) -> slow.Bias:
    """(sequence, head, query, key) -> sum of log gates of the tokens after the key up to the query."""
    learned = slow.numbers(encoding)
    gates = [
        [[log_gate(z) for z in mapped(x, learned["linear.weight"], learned["linear.bias"])] for x in sequence]
        for sequence in layer.x.tolist()
    ]
    return lambda b, h, i, j: sum(gates[b][token][h] for token in range(j + 1, i + 1))


@pytest.mark.parametrize(
    ("name", "log_gate"),
    [("fox", lambda z: math.log(sigmoid(z))), ("cable", lambda z: -math.log(1 + math.exp(z)))],
)
def test_fox_and_cable(name: str, log_gate) -> None:
    encoding = encoding_of(name)

    def logit_of(layer: Layer, at: list[int]) -> Logit:
        content, bias = products(layer), forgotten(encoding, layer, log_gate)
        return lambda b, h, i, j: content(b, h, i, j) + bias(b, h, i, j)

    assert both(encoding, logit_of) < CLOSE


BASES = {
    "alibi": lambda base: slow.alibi(HEADS),
    "kerple_log": slow.kerple_log,
    "fire": lambda base: slow.fire(base, TRAIN_LENGTH // 2),
    "nope": None,
}


@pytest.mark.parametrize("base", BASES)
def test_dape(base: str) -> None:
    encoding = encoding_of({"name": "dape_alibi", "base": base})
    learned, reference = slow.numbers(encoding), BASES[base]
    bias = reference(encoding.base) if reference else lambda h, i, j: 0.0
    into = learned["from_scores.weight"]
    if reference:
        into = [a + b for a, b in zip(into, learned["from_bias.weight"], strict=True)]

    def logit_of(layer: Layer, at: list[int]) -> Logit:
        content = products(layer)

        def logit(b: int, h: int, i: int, j: int) -> float:
            s = [content(b, g, i, j) for g in range(HEADS)]
            biases = [bias(g, at[i], at[j]) for g in range(HEADS)]
            hidden = mapped(s + biases if reference else s, into, learned["from_scores.bias"])
            hidden = [y if y > 0 else 0.01 * y for y in hidden]
            return s[h] + biases[h] + dot(learned["out.weight"][h], hidden)

        return logit

    assert both(encoding, logit_of) < CLOSE


def path_vectors(learned: dict, layer: Layer) -> tuple[list, list]:
    """w and beta of every sequence, token and key head."""
    every_w, every_beta = [], []
    for sequence in layer.x.tolist():
        low = [[dot(row, x) for row in learned["down.weight"]] for x in sequence]
        raw = [[dot(row, y) for row in learned["up.weight"]] for y in low]
        ws = []
        for t in range(len(sequence)):
            mixed = [
                sum(tap[c] * raw[t - back][c] for back, tap in enumerate(learned["taps"]) if t >= back)
                for c in range(len(raw[t]))
            ]
            active = [y * sigmoid(y) for y in mixed]
            heads = [active[c : c + HEAD_DIM] for c in range(0, len(active), HEAD_DIM)]
            ws.append([[y / math.sqrt(dot(head, head)) for y in head] for head in heads])
        every_w.append(ws)
        logits = [mapped(x, learned["beta.weight"], learned["beta.bias"]) for x in sequence]
        every_beta.append([[2 * sigmoid(z) for z in row] for row in logits])
    return every_w, every_beta


@pytest.mark.parametrize("kv_heads", [HEADS, 2])
def test_path(kv_heads: int) -> None:
    """One matrix at a time, from the query back to the key."""
    encoding, layer = encoding_of("path", kv_heads=kv_heads), Layer.random(kv_heads=kv_heads)
    ws, betas = path_vectors(slow.numbers(encoding), layer)
    q, k = layer.q.tolist(), layer.k.tolist()
    logits = {}
    for b, h, i in ((b, h, i) for b in range(BATCH) for h in range(HEADS) for i in range(LENGTH)):
        group = h * kv_heads // HEADS
        turned = q[b][h][i]
        for j in range(i, -1, -1):
            logits[b, h, i, j] = dot(turned, k[b][group][j]) / math.sqrt(HEAD_DIM)
            w, beta = ws[b][j][group], betas[b][j][group]
            along = dot(w, turned)
            turned = [y - beta * along * c for y, c in zip(turned, w, strict=True)]
    assert worst(layer, encoding, lambda *index: logits[index]) < 2 * CLOSE


@pytest.mark.parametrize("largest", [None, 4])
def test_inkling(largest: int | None) -> None:
    encoding = encoding_of({"name": "inkling", "basis": 3, "max_distance": largest})
    learned, columns = slow.numbers(encoding), largest or TRAIN_LENGTH

    def logit_of(layer: Layer, at: list[int]) -> Logit:
        content, x = products(layer), layer.x.tolist()

        def logit(b: int, h: int, i: int, j: int) -> float:
            distance = at[i] - at[j]
            if distance >= columns:
                return content(b, h, i, j)
            r = mapped(x[b][i], learned["weights.weight"], learned["weights.bias"])[3 * h : 3 * h + 3]
            return content(b, h, i, j) + sum(r[c] * learned["bank"][c][distance] for c in range(3))

        return logit

    assert both(encoding, logit_of) < CLOSE


def turned(vector: Vector, angles: Vector) -> Vector:
    """Channels c and c + d/2 are a pair."""
    half = len(vector) // 2
    first = [vector[c] * math.cos(a) - vector[c + half] * math.sin(a) for c, a in enumerate(angles)]
    second = [vector[c + half] * math.cos(a) + vector[c] * math.sin(a) for c, a in enumerate(angles)]
    return first + second


@pytest.mark.parametrize("name", ["selective_rope", "selective_rope_head"])
@pytest.mark.parametrize("kv_heads", [HEADS, 2])
def test_selective_rope(name: str, kv_heads: int) -> None:
    encoding, layer = encoding_of(name, kv_heads=kv_heads), Layer.random(kv_heads=kv_heads)
    learned, pairs = slow.numbers(encoding), HEAD_DIM // 2
    q, k, x = layer.q.tolist(), layer.k.tolist(), layer.x.tolist()

    def angles(b: int, group: int, token: int) -> Vector:
        clocks = [0.0] * pairs
        for t in range(token + 1):
            steps = [2 * sigmoid(z) for z in mapped(x[b][t], learned["linear.weight"], learned["linear.bias"])]
            own = steps[group * pairs :][:pairs] if name == "selective_rope" else [steps[group]] * pairs
            clocks = plus(clocks, own)
        return [clock / 10000 ** (2 * c / HEAD_DIM) for c, clock in enumerate(clocks)]

    at = {(b, g, t): angles(b, g, t) for b in range(BATCH) for g in range(kv_heads) for t in range(LENGTH)}

    def logit(b: int, h: int, i: int, j: int) -> float:
        group = h * kv_heads // HEADS
        query, key = turned(q[b][h][i], at[b, group, i]), turned(k[b][group][j], at[b, group, j])
        return dot(query, key) / math.sqrt(HEAD_DIM)

    assert worst(layer, encoding, logit) < CLOSE
