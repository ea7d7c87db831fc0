"""The attention kernels against explicit loops and gathers, on inputs of their own rather than through a model."""

import itertools
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import Gapped, running, shared, tokens
from torch import Tensor

from model.attention import dispatch
from model.attention.chunked import antidiagonal_sums, attention, hankel
from model.attention.dispatch import attend
from model.attention.logits import LogitsSpec, SharedAcrossLayers
from model.pe.base import Context, DistanceBias, PositionEncoding
from model.positions.base import SequenceBatch
from model.shape import Shape

ROOT = Path(__file__).resolve().parents[2]
HEADS, DIM = 4, 8
SHAPE = Shape(width=HEADS * DIM, heads=HEADS, kv_heads=HEADS, head_dim=DIM, layers=1, train_length=32)
EPSILON = 1e-5


class Sloped(DistanceBias):
    """A random number for every head and distance, which is no function of anything."""

    def table(self, n: int, device: torch.device | None = None) -> Tensor:
        return torch.randn(64, HEADS, generator=torch.Generator().manual_seed(3)).T[:, :n]


class Odd(PositionEncoding):
    """Only keys at an odd distance, and oneself."""

    def allowed(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        distance = query_positions - key_positions
        return (distance % 2 == 1) | (distance == 0)


class Near(PositionEncoding):
    """Only the last five keys, by `allowed` and `window_size`."""

    def allowed(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        return query_positions - key_positions < 5

    def window_size(self) -> int:
        return 5


class Sunk(PositionEncoding):
    """A key without a value, one logit a head."""

    def sink(self) -> Tensor:
        return torch.tensor([-1.0, 0.0, 1.0, 3.0])


class SunkAndSloped(Sunk, Sloped):
    """Both, so that the strided path meets a sink."""


class Crossed(PositionEncoding):
    """A bias that depends on both positions, other logits, and values that are not the weighted sum."""

    def bias(self, block) -> Tensor:
        i, j = block.query_positions[:, None, :, None], block.key_positions[:, None, None, :]
        return (i * 3 + j * 5).float().sin()

    def scores(self, q: Tensor, k: Tensor, scale: float, block) -> Tensor:
        return -(q[:, :, :, None] - k[:, :, None]).abs().sum(-1) * scale

    def values(self, weights: Tensor, v: Tensor, block) -> Tensor:
        return weights.square() @ v


ENCODINGS = {cls.__name__: cls for cls in (PositionEncoding, Sloped, Odd, Near, Sunk, SunkAndSloped, Crossed)}


def inputs(queries: int, keys: int, kv_heads: int = HEADS) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    q = torch.randn(2, HEADS, queries, DIM, generator=draw)
    k, v = torch.randn(2, 2, kv_heads, keys, DIM, generator=draw)
    return q.requires_grad_(), k.requires_grad_(), v.requires_grad_()


def spec_of(
    encoding: PositionEncoding,
    queries: int,
    keys: int,
    positions: Tensor | None = None,
    documents: Tensor | None = None,
) -> LogitsSpec:
    context = Context(
        torch.arange(keys)[None] if positions is None else positions,
        queries,
        SHAPE.train_length,
        keys,
        contiguous=positions is None,
        documents=documents,
    )
    return LogitsSpec(encoding, context, SharedAcrossLayers.of(encoding, context), {}, DIM**-0.5)


def by_hand(q: Tensor, k: Tensor, v: Tensor, spec: LogitsSpec) -> Tensor:
    """Attention one query at a time, keys picked by an `if`."""
    encoding, context, table = spec.encoding, spec.context, spec.shared.table
    group = q.shape[1] // k.shape[1]
    out, first = torch.zeros(q.shape), k.shape[2] - q.shape[2]
    positions = context.positions.expand(q.shape[0], -1)
    for b, h, row in itertools.product(range(q.shape[0]), range(q.shape[1]), range(q.shape[2])):
        i, logit, value = first + row, [], []
        for j in range(i + 1):
            pair = positions[b, i], positions[b, j]
            allowed = encoding.allowed(*pair)
            if allowed is not None and not allowed:
                continue
            if context.documents is not None and context.documents[b, i] != context.documents[b, j]:
                continue
            if isinstance(encoding, Crossed):
                s = -(q[b, h, row] - k[b, h // group, j]).abs().sum() + math.sin(pair[0] * 3 + pair[1] * 5) * DIM**0.5
            else:
                s = q[b, h, row] @ k[b, h // group, j]
            s = s * DIM**-0.5
            logit.append(s if table is None else s + table[h, pair[0] - pair[1]])
            value.append(v[b, h // group, j])
        e = torch.stack(logit).exp()
        p = e / (e.sum() + (0 if encoding.sink() is None else encoding.sink()[h].exp()))
        out[b, h, row] = (p.square() if isinstance(encoding, Crossed) else p) @ torch.stack(value)
    return out


@pytest.mark.parametrize("kernel", ["dense", "chunked", "flash"])
@pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=ENCODINGS)
@pytest.mark.parametrize(("queries", "keys"), [(11, 11), (1, 9), (5, 12), (1, 1)])
def test_kernels_against_loops(
    kernel: str, encoding: Callable, queries: int, keys: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "CHUNK", 4)
    q, k, v = inputs(queries, keys, kv_heads=2)
    spec = spec_of(encoding(SHAPE), queries, keys)
    if kernel == "flash" and not spec.is_causal_only:
        with pytest.raises(AssertionError, match="drop"):
            attend(q, k, v, spec, "flash")
        return
    expected, got = by_hand(q, k, v, spec), attend(q, k, v, spec, kernel)
    weight = torch.randn(got.shape, generator=torch.Generator().manual_seed(1))
    wanted = torch.autograd.grad((expected * weight).sum(), (q, k, v))
    torch.testing.assert_close(got, expected, atol=EPSILON, rtol=0)
    torch.testing.assert_close(torch.autograd.grad((got * weight).sum(), (q, k, v)), wanted, atol=EPSILON, rtol=0)


@pytest.mark.parametrize("kernel", ["dense", "chunked"])
@pytest.mark.parametrize("encoding", [Sloped, Odd, Near, Crossed])
def test_positions_with_gaps_and_documents(kernel: str, encoding: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "CHUNK", 4)
    q, k, v = inputs(10, 10)
    positions = Gapped().positions(10, SequenceBatch(2, torch.device("cpu")))
    documents = torch.tensor([[0] * 3 + [1] * 6 + [2], [5] * 10])
    for packed in (None, documents):
        spec = spec_of(encoding(SHAPE), 10, 10, positions, packed)
        agree(q, k, v, spec, kernel)
    agree(q, k, v, spec_of(encoding(SHAPE), 10, 10, None, documents), kernel)  # contiguous positions, and packed


def agree(q: Tensor, k: Tensor, v: Tensor, spec: LogitsSpec, kernel: str) -> None:
    """With loops; what is added made at once or block by block, with and without a record of gradients."""
    expected = by_hand(q, k, v, spec)
    for common, gradients in itertools.product((spec.shared, replace(spec.shared, additive_mask=None)), (True, False)):
        with torch.set_grad_enabled(gradients):
            got = attend(q, k, v, replace(spec, shared=common), kernel)
        torch.testing.assert_close(got, expected, atol=EPSILON, rtol=0)


@given(
    heads=st.integers(1, 3),
    first=st.integers(0, 5),
    rows=st.integers(1, 6),
    columns=st.integers(1, 6),
    spare=st.integers(0, 4),
)
@settings(derandomize=True, max_examples=30, deadline=None)
def test_hankel_is_a_gather(heads: int, first: int, rows: int, columns: int, spare: int) -> None:
    n = first + rows + columns - 1 + spare
    source = torch.randn(heads, n, dtype=torch.float64, requires_grad=True)
    index = first + torch.arange(rows)[:, None] + torch.arange(columns)
    got = hankel(source, first, rows, columns)
    assert torch.equal(got, source[:, index])
    assert got.untyped_storage().data_ptr() == source.untyped_storage().data_ptr()  # a spec, not a copy
    weight = torch.randn(heads, rows, columns, dtype=torch.float64)
    (expected,) = torch.autograd.grad((source[:, index] * weight).sum(), source)
    sums = antidiagonal_sums(weight)
    torch.testing.assert_close(sums, expected[:, first : first + rows + columns - 1])


@pytest.mark.parametrize("reach", [None, 3])
@pytest.mark.parametrize("sink", [False, True])
@pytest.mark.parametrize("keep", [0, 1024])
@pytest.mark.parametrize("cache", [1, 200, 2**22])
def test_the_written_backward_is_the_gradient(
    reach: int | None, sink: bool, keep: int, cache: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights stored and computed again; a head, a sequence or all at a time; cached keys; learned biases; a sink."""
    monkeypatch.setattr("model.attention.chunked.SAVE_WEIGHTS_UP_TO", keep)
    monkeypatch.setattr("model.attention.chunked.GROUP_BYTES", cache)
    q, k, v = (torch.randn(2, 3, n, 4, requires_grad=True) for n in (7, 9, 9))
    table = torch.randn(3, 12, requires_grad=True)
    logit = torch.randn(3, requires_grad=True) if sink else None
    inputs = [t for t in (q, k, v, table, logit) if t is not None]

    i, j = torch.arange(2, 9)[:, None], torch.arange(9)
    visible = (j <= i) & (i - j < (reach or 9))
    # Blocks start at the first key that any of their queries reaches; the table hides the rest.
    hidden = table if reach is None else torch.where(torch.arange(12) < reach, table, -torch.inf)
    got = attention(q, k, v, hidden, logit, 0.5, reach, chunk=4)
    s = q @ k.transpose(2, 3) * 0.5 + table[:, (i - j).clamp(min=0)]
    s = torch.where(visible, s, -torch.inf)
    full = s if logit is None else torch.cat([s, logit[None, :, None, None].expand(2, 3, 7, 1)], -1)
    expected = full.softmax(-1)[..., :9] @ v
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)
    weight = torch.randn_like(expected)
    ours, theirs = (torch.autograd.grad((y * weight).sum(), inputs) for y in (got, expected))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 3), (2, 3)])
@pytest.mark.parametrize("keep", [0, 1024])
@pytest.mark.parametrize("cache", [1, 200, 2**22])
def test_the_written_backward_of_biases_of_all_pairs(
    size: tuple[int, int], keep: int, cache: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for all sequences or heads, or not; a head, a sequence or all at a time; in bf16 summed in float32."""
    monkeypatch.setattr("model.attention.chunked.SAVE_WEIGHTS_UP_TO", keep)
    monkeypatch.setattr("model.attention.chunked.GROUP_BYTES", cache)
    i, j = torch.arange(2, 9)[:, None], torch.arange(9)
    bias = torch.randn(*size, 7, 9, requires_grad=True)
    added = torch.where((j <= i) & ((i + j) % 3 > 0) | (i == j), bias, -torch.inf)
    for dtype, close in ((torch.float32, 1e-5), (torch.bfloat16, 0.05)):
        draw = torch.Generator().manual_seed(0)
        inputs = [torch.randn(2, 3, n, 4, generator=draw).to(dtype).requires_grad_() for n in (7, 9, 9)]
        q, k, v = inputs
        got = attention(q, k, v, added, None, 0.5, None, chunk=4)
        expected = (q.float() @ k.float().transpose(2, 3) * 0.5 + added).softmax(-1) @ v.float()
        weight = torch.randn(expected.shape, generator=draw)
        ours, theirs = (
            torch.autograd.grad((y * weight).sum(), [*inputs, bias], retain_graph=True) for y in (got, expected)
        )
        for a, b in zip((got, *ours), (expected, *theirs), strict=True):
            torch.testing.assert_close(a.float(), b.float(), atol=close, rtol=0)


@pytest.mark.parametrize("cuts", [[], [1, 2, 3], [8, 9], [4, 30, 31]])
@pytest.mark.parametrize("kernel", ["dense", "chunked", "flash"])
def test_a_cached_block_sees_every_key_before_it(kernel: str, cuts: list[int]) -> None:
    """SDPA's `is_causal` aligns fewer queries than keys to the upper left, where a cached step sees key 0 alone."""
    model, x = shared("nope"), tokens(2, 33)
    memory = model.new_cache()
    with torch.no_grad(), running(model, kernel=kernel, chunk=8):
        parts = [model(piece, cache=memory) for piece in x.tensor_split(cuts, 1)]
    with torch.no_grad(), running(model, kernel="dense"):
        torch.testing.assert_close(torch.cat(parts, 1), model(x), atol=2e-5, rtol=0)


def test_half_precision_keeps_float32_logits() -> None:
    """In bfloat16 a bias of 1,000 that is equal for all keys must not swamp their differences."""

    class Raised(DistanceBias):
        def table(self, n: int, device: torch.device | None = None) -> Tensor:
            return 1000 + torch.arange(n).float()[None] / 8

    q, k, v = (x.detach().bfloat16() for x in inputs(24, 24))
    spec = spec_of(Raised(SHAPE), 24, 24)
    expected = attend(q.float(), k.float(), v.float(), spec, "dense")
    for kernel in ("dense", "chunked"):
        assert (attend(q, k, v, spec, kernel).float() - expected).abs().max() < 0.03


PEAK = """
import re, sys, torch
from model import build

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

torch.set_num_threads(1)
name, length = sys.argv[1], int(sys.argv[2])
model = build(4096, 512, {"layers": 6, "width": 256, "heads": 4}, name).eval()
x = torch.randint(4096, (1, length), generator=torch.Generator().manual_seed(0))
model.nll(x[:, :512], x[:, :512])
before = peak()
model.nll(x, x)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
@pytest.mark.parametrize("name", ["rope", "alibi", "t5"])
def test_evaluation_memory_is_linear_and_small(name: str) -> None:
    """MiB over the model and a short warm-up, in a process of its own for every length."""
    mebibytes = {}
    for length in (4096, 16384):
        run = subprocess.run([sys.executable, "-c", PEAK, name, str(length)], cwd=ROOT, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        mebibytes[length] = float(run.stdout)
    assert mebibytes[16384] <= 600, mebibytes
    assert mebibytes[16384] <= 8 * mebibytes[4096], mebibytes  # linear would be 4, plus what malloc does; quadratic 16
