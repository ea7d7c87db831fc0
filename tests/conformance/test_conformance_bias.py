"""Codes and biases against the implementations others run, which never see a table of ours."""

import math

import pytest
import torch
from layer_logits import CAUSAL, bias_of, causal, content, copied
from one_layer import BATCH, HEADS, LENGTH, TRAIN_LENGTH, WIDTH, Layer, encoding_of

from model.pe.alibi import slopes
from model.pe.binary import Binary
from model.pe.learned import Learned
from model.pe.sinusoidal import Sinusoidal
from model.pe.t5 import T5

pytest.importorskip("transformers", minversion="5.3")
x_transformers = pytest.importorskip("x_transformers.x_transformers")

# --- codes of absolute positions


@pytest.mark.target(
    "`sinusoidal_concatenated`", "x-transformers `ScaledSinusoidalEmbedding`, scale 1", "codes of 26 positions"
)
def test_sinusoids(agree) -> None:
    theirs = x_transformers.ScaledSinusoidalEmbedding(WIDTH)
    encoding = encoding_of("sinusoidal_concatenated")
    assert isinstance(encoding, Sinusoidal)
    with torch.no_grad():
        theirs.scale.fill_(1.0)
        agree(encoding.code(torch.arange(LENGTH)), theirs(torch.empty(1, LENGTH, WIDTH)))


@pytest.mark.target("`learned`", "x-transformers `AbsolutePositionalEmbedding`, times sqrt(D)", "codes", limit=1e-6)
def test_learned(agree) -> None:
    theirs = x_transformers.AbsolutePositionalEmbedding(WIDTH, TRAIN_LENGTH)
    encoding = copied(encoding_of("learned"), rows=theirs.emb.weight)
    assert isinstance(encoding, Learned)
    agree(encoding.rows, theirs(torch.empty(1, TRAIN_LENGTH, WIDTH)) * math.sqrt(WIDTH))


@pytest.mark.target("`binary`", "Python's `format(t, 'b')`", "bits of 300 positions", limit=0)
def test_binary(agree) -> None:
    encoding = encoding_of("binary")
    assert isinstance(encoding, Binary)
    theirs = [[1.0 if bit == "1" else -1.0 for bit in reversed(f"{t:0{encoding.bits}b}")] for t in range(300)]
    agree(encoding.code(torch.arange(300)), torch.tensor(theirs))


# --- T5

SETTINGS = [(32, 128), (32, 16 * 3), (32, 1024), (16, 128), (8, 20), (64, 512), (128, 4096), (2, 10)]


@pytest.mark.target("`t5`", "transformers `T5Attention._relative_position_bucket`", "buckets of 0 ... 10,000", limit=0)
@pytest.mark.parametrize(("buckets", "largest"), SETTINGS)
def test_t5_buckets(buckets: int, largest: int, agree) -> None:
    from transformers.models.t5.modeling_t5 import T5Attention

    distance = torch.arange(10_001)
    encoding = encoding_of({"name": "t5", "buckets": buckets, "max_distance": largest})
    assert isinstance(encoding, T5)
    agree(encoding.bucket(10_001), T5Attention._relative_position_bucket(-distance, False, buckets, largest))


@pytest.mark.target("`t5_128`", "x-transformers `RelativePositionBias`, scale 1", "bias", limit=2e-6)
def test_t5_bias(agree) -> None:
    theirs = x_transformers.RelativePositionBias(scale=1.0, causal=True, num_buckets=32, max_distance=128, heads=HEADS)
    encoding = copied(encoding_of("t5_128"), weight=theirs.relative_attention_bias.weight)
    expected = causal(theirs(LENGTH, LENGTH)).expand(BATCH, HEADS, -1, -1)
    agree(bias_of(encoding, Layer.random()), expected)


# --- ALiBi

every_head_count = pytest.mark.parametrize("heads", range(1, 41))


@pytest.mark.target("`alibi`", "x-transformers `AlibiPositionalBias._get_slopes`", "slopes of 1 ... 40 heads", limit=0)
@every_head_count
def test_alibi_slopes(heads: int, agree) -> None:
    agree(torch.tensor(slopes(heads)), torch.tensor(x_transformers.AlibiPositionalBias._get_slopes(heads)))


@pytest.mark.target(
    "`alibi`", "transformers Bloom, MPT (float32 powers)", "slopes of 1 ... 40 heads, relative", limit=1e-6
)
@every_head_count
def test_alibi_slopes_of_bloom_and_mpt(heads: int, agree) -> None:
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor as bloom
    from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor as mpt

    for theirs in (bloom(torch.ones(1, 3), heads, torch.float32)[:, 0, 1], mpt(heads, 3)[:, 0].diff()[:, 0]):
        agree(torch.tensor(slopes(heads)), theirs, relative=True)


@pytest.mark.target(
    "`alibi`", "transformers Falcon (bfloat16 powers)", "slopes of 1 ... 40 heads, relative", limit=2**-8
)
@every_head_count
def test_alibi_slopes_of_falcon(heads: int, agree) -> None:
    from transformers.models.falcon.modeling_falcon import build_alibi_tensor

    theirs = build_alibi_tensor(torch.ones(1, 3, dtype=torch.long), heads, torch.float32)[:, 0, 1]
    agree(torch.tensor(slopes(heads)), theirs, relative=True)


@pytest.mark.target("`alibi`", "transformers Bloom, MPT", "attention weights of 4 and 6 heads", limit=2e-6)
@pytest.mark.parametrize("heads", [4, 6])
def test_alibi_weights(heads: int, agree) -> None:
    """Bloom and MPT add m * j: every row differs from ours by a constant, and no weight does."""
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor
    from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor

    layer = Layer.random(heads)
    weights = layer.run(encoding_of("alibi", heads), "chunked")
    bloom = build_alibi_tensor(torch.ones(1, LENGTH, dtype=torch.long), heads, torch.float32)
    for bias in (bloom, build_mpt_alibi_tensor(heads, LENGTH)):
        agree(weights, torch.softmax((content(layer) + bias).masked_fill(~CAUSAL, -torch.inf), -1))


@pytest.mark.target("`alibi`, `alibi_half`", "x-transformers `AlibiPositionalBias`", "bias", limit=2e-6)
@pytest.mark.parametrize(("name", "heads"), [("alibi", HEADS), ("alibi_half", HEADS // 2)])
def test_alibi_on_all_and_on_half_of_the_heads(name: str, heads: int, agree) -> None:
    theirs = x_transformers.AlibiPositionalBias(heads=heads, total_heads=HEADS)(LENGTH, LENGTH)
    agree(bias_of(encoding_of(name), Layer.random()), causal(theirs).expand(BATCH, -1, -1, -1))


# --- a network over distance


@pytest.mark.target("`mlp_bias`, `mlp_bias_log`", "x-transformers `DynamicPositionBias`", "bias")
@pytest.mark.parametrize("log", [False, True])
def test_mlp_bias(log: bool, agree) -> None:
    theirs = x_transformers.DynamicPositionBias(dim=32, heads=HEADS, depth=2, log_distance=log)
    (first, _), (second, _), out = theirs.mlp
    unit = math.log1p(TRAIN_LENGTH) if log else TRAIN_LENGTH  # ours sees distances in this unit
    encoding = copied(
        encoding_of("mlp_bias_log" if log else "mlp_bias"),
        first__weight=first.weight * unit,
        first__bias=first.bias,
        second__weight=second.weight,
        second__bias=second.bias,
        out__weight=out.weight,
    )
    expected = theirs(LENGTH, LENGTH) - out.bias[:, None, None]  # the same for all keys of a query
    agree(bias_of(encoding, Layer.random()), causal(expected).expand(BATCH, -1, -1, -1))
