"""The content-free biases of the papers in Python floats. Each returns bias(head, query position, key position)."""

import math
from collections.abc import Callable

from one_layer import TRAIN_LENGTH

from model.pe.base import PositionEncoding

Bias = Callable[[int, int, int], float]

# 2^(-8h/H); H = 6 and 12 are those of 4 and 8 heads, then every other one of 8 and 16 heads.
SLOPES = {
    4: [1 / 4, 1 / 16, 1 / 64, 1 / 256],
    6: [1 / 4, 1 / 16, 1 / 64, 1 / 256, 1 / 2, 1 / 8],
    12: [2.0**-p for p in (1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5, 2.5, 3.5)],
}


def numbers(encoding: PositionEncoding) -> dict:
    """The learned parameters as nested lists, by name."""
    return {name: parameter.tolist() for name, parameter in encoding.named_parameters()}


def alibi(heads: int) -> Bias:
    return lambda h, i, j: -SLOPES[heads][h] * (i - j)


def kerple_log(encoding: PositionEncoding) -> Bias:
    learned = numbers(encoding)
    p, a = ([max(x, 0.01) for x in learned[name]] for name in ("p", "a"))
    return lambda h, i, j: -p[h] * math.log(1 + a[h] * (i - j))


def kerple_power(encoding: PositionEncoding) -> Bias:
    learned = numbers(encoding)
    p, a = ([max(x, 0.01) for x in learned[name]] for name in ("p", "a"))
    return lambda h, i, j: -a[h] * (i - j) ** min(p[h], 2.0)


def t5(encoding: PositionEncoding, buckets: int, largest: int) -> Bias:
    weight = numbers(encoding)["weight"]

    def bucket(distance: int) -> int:
        half = buckets // 2
        if distance < half:
            return distance
        wide = half + math.floor(math.log(distance / half) / math.log(largest / half) * (buckets - half) + 1e-9)
        return min(wide, buckets - 1)

    return lambda h, i, j: weight[bucket(i - j)][h]


def sandwich(heads: int, dims: int) -> Bias:
    def bias(h: int, i: int, j: int) -> float:
        total = 0.0
        for c in range(1, dims // 2 + 1):
            total += math.cos((i - j) / 10000 ** (2 * c / dims))
        return (total - dims / 2) / ((h + 1) * 8 / heads)

    return bias


def toeplitz(encoding: PositionEncoding) -> Bias:
    weight = numbers(encoding)["weight"]
    return lambda h, i, j: weight[min(i - j, len(weight) - 1)][h]


def mlp_bias(encoding: PositionEncoding, log: bool) -> Bias:
    learned = numbers(encoding)

    def silu(x: float) -> float:
        return x / (1 + math.exp(-x))

    def bias(h: int, i: int, j: int) -> float:
        x = math.log(1 + i - j) / math.log(1 + TRAIN_LENGTH) if log else (i - j) / TRAIN_LENGTH
        hidden = [
            silu(weight[0] * x + offset)
            for weight, offset in zip(learned["first.weight"], learned["first.bias"], strict=True)
        ]
        hidden = [
            silu(sum(w * y for w, y in zip(weight, hidden, strict=True)) + offset)
            for weight, offset in zip(learned["second.weight"], learned["second.bias"], strict=True)
        ]
        return sum(w * y for w, y in zip(learned["out.weight"][h], hidden, strict=True))

    return bias


def fire(encoding: PositionEncoding, threshold: float) -> Bias:
    learned = numbers(encoding)
    (c,), (m,) = learned["c"], learned["m"]

    def psi(x: float) -> float:
        return math.log(abs(c * x) + 1)

    def bias(h: int, i: int, j: int) -> float:
        x = psi(i - j) / (psi(max(i, abs(m * threshold))) + 1e-6)
        hidden = [
            max(0.0, weight[0] * x + offset)
            for weight, offset in zip(learned["hidden.weight"], learned["hidden.bias"], strict=True)
        ]
        return sum(w * y for w, y in zip(learned["out.weight"][h], hidden, strict=True))

    return bias
