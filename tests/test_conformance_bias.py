"""Biases and content-dependent encodings against the implementations others run, which never see a table of ours."""

import math

import pytest
import torch
from one_layer import BATCH, HEAD_DIM, HEADS, LENGTH, TRAIN_LENGTH, WIDTH, Layer, encoding_of
from torch import Tensor

from model.attention import Prepared
from model.kernels import View
from model.pe.alibi import slopes
from model.pe.base import Block, Context, PositionEncoding, scaled_scores
from model.pe.registry import encodings_for
from model.shape import Shape

pytest.importorskip("transformers", minversion="5.3")
x_transformers = pytest.importorskip("x_transformers.x_transformers")
CLOSE = 2e-6
CAUSAL = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()


def ours(encoding: PositionEncoding, layer: Layer) -> Tensor:
    """Attention logits (B, H, T, T) of keys that are not in the future; 0 elsewhere."""
    n = layer.q.shape[2]
    context = Context(layer.positions, n, TRAIN_LENGTH, n, layer.contiguous)
    prepared = Prepared.of(encoding, context)
    digest = encoding.digest(encoding.state(layer.x), context)
    view = View(encoding, context, prepared.value, prepared.table, digest, HEAD_DIM**-0.5)
    block = view.block(slice(0, n), slice(0, n))
    logits = encoding.scores(layer.q, layer.k, view.scale, block)
    if prepared.table is not None:
        logits = logits + block.spread(prepared.table)
    bias = encoding.bias(block)
    return torch.where(CAUSAL, logits if bias is None else logits + bias, 0).detach()


def bias_of(encoding: PositionEncoding, layer: Layer) -> Tensor:
    """What the encoding adds to q k / sqrt(d)."""
    return ours(encoding, layer) - torch.where(CAUSAL, scaled_scores(layer.q, layer.k, HEAD_DIM**-0.5), 0)


def causal(theirs: Tensor) -> Tensor:
    return torch.where(CAUSAL, theirs.detach(), 0)


def copied(encoding: PositionEncoding, **values: Tensor) -> PositionEncoding:
    """The encoding with the other implementation's learned numbers."""
    with torch.no_grad():
        for name, value in values.items():
            encoding.get_parameter(name.replace("__", ".")).copy_(value)
    return encoding


# --- T5

SETTINGS = [(32, 128), (32, 16 * 3), (32, 1024), (16, 128), (8, 20), (64, 512), (128, 4096), (2, 10)]


@pytest.mark.parametrize(("buckets", "largest"), SETTINGS)
def test_t5_buckets_are_those_of_transformers(buckets: int, largest: int) -> None:
    from transformers.models.t5.modeling_t5 import T5Attention

    distance = torch.arange(10_001)
    theirs = T5Attention._relative_position_bucket(-distance, False, buckets, largest)
    encoding = encoding_of({"name": "t5", "buckets": buckets, "max_distance": largest})
    assert torch.equal(encoding.bucket(10_001), theirs)


def test_t5_bias_is_that_of_x_transformers() -> None:
    theirs = x_transformers.RelativePositionBias(scale=1.0, causal=True, num_buckets=32, max_distance=128, heads=HEADS)
    encoding = copied(encoding_of("t5_128"), weight=theirs.relative_attention_bias.weight)
    expected = causal(theirs(LENGTH, LENGTH)).expand(BATCH, -1, -1, -1)
    assert (bias_of(encoding, Layer.random()) - expected).abs().max() < CLOSE


# --- ALiBi


@pytest.mark.parametrize("heads", range(1, 41))
def test_alibi_slopes_of_every_number_of_heads(heads: int) -> None:
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor as bloom
    from transformers.models.falcon.modeling_falcon import build_alibi_tensor as falcon
    from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor as mpt

    mask = torch.ones(1, 3, dtype=torch.long)
    exact = torch.tensor(slopes(heads), dtype=torch.float64)
    theirs = {
        "bloom": bloom(mask, heads, torch.float32)[:, 0, 1],
        "mpt": mpt(heads, 3)[:, 0, 2] - mpt(heads, 3)[:, 0, 1],
        "x-transformers": torch.tensor(x_transformers.AlibiPositionalBias._get_slopes(heads)),
        "falcon": falcon(mask, heads, torch.float32)[:, 0, 1],
    }
    for name, found in theirs.items():
        tolerance = 2**-8 if name == "falcon" else 1e-6  # Falcon rounds to bfloat16, Bloom takes float32 powers
        assert (found.double() / exact - 1).abs().max() <= tolerance, name


@pytest.mark.parametrize("heads", [4, 6])
def test_alibi_weights_are_those_of_bloom(heads: int) -> None:
    """Bloom and MPT add m * j: every row differs from ours by a constant, and no weight does."""
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor
    from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor

    layer = Layer.random(heads)
    content = scaled_scores(layer.q, layer.k, HEAD_DIM**-0.5)
    weights = layer.run(encoding_of("alibi", heads), "chunked")
    bloom = build_alibi_tensor(torch.ones(1, LENGTH, dtype=torch.long), heads, torch.float32)
    for bias in (bloom, build_mpt_alibi_tensor(heads, LENGTH)):
        expected = torch.softmax((content + bias).masked_fill(~CAUSAL, -torch.inf), -1)
        assert (weights - expected).abs().max() < CLOSE


def test_alibi_and_alibi_half_are_those_of_x_transformers() -> None:
    layer = Layer.random()
    for name, heads in (("alibi", HEADS), ("alibi_half", HEADS // 2)):
        theirs = x_transformers.AlibiPositionalBias(heads=heads, total_heads=HEADS)(LENGTH, LENGTH)
        assert (bias_of(encoding_of(name), layer) - causal(theirs)).abs().max() < CLOSE


# --- other biases of x-transformers


@pytest.mark.parametrize("log", [False, True])
def test_mlp_bias(log: bool) -> None:
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
    assert (bias_of(encoding, Layer.random()) - causal(expected)).abs().max() < 2 * CLOSE


def test_cope() -> None:
    layer = Layer.random()
    theirs = x_transformers.CoPE(dim=HEAD_DIM, heads=HEADS, max_pos=8)
    encoding = encoding_of({"name": "cope", "size": 8})
    with torch.no_grad():
        theirs.pos_emb.copy_(torch.randn(8, HEAD_DIM))
    encoding = copied(encoding, rows=theirs.pos_emb)
    logits = scaled_scores(layer.q, layer.k, HEAD_DIM**-0.5).masked_fill(~CAUSAL, -torch.inf)
    assert (bias_of(encoding, layer) - causal(theirs(layer.q, logits))).abs().max() < 1e-5  # counts up to 8 are summed


def test_fox() -> None:
    layer = Layer.random()
    theirs = x_transformers.DataDependentAlibi(dim=WIDTH, heads=HEADS)
    linear = theirs.to_forget_gates[0]
    encoding = copied(encoding_of("fox"), linear__weight=linear.weight, linear__bias=linear.bias)
    assert (bias_of(encoding, layer) - causal(theirs(layer.x))).abs().max() < CLOSE
    shape = Shape(WIDTH, HEADS, HEADS, HEAD_DIM, 1, TRAIN_LENGTH)
    new = encodings_for(shape, {"name": "fox", "keep": 1 / (1 + math.exp(-5))})[0]
    new.reset(torch.Generator())
    assert torch.allclose(new.linear.bias, linear.bias)


def test_inkling() -> None:
    layer = Layer.random()
    theirs = x_transformers.RelativeProjPositionalBias(dim=WIDTH, heads=HEADS, num_distance_basis=5, max_dist=10)
    with torch.no_grad():
        theirs.distance_bank.mul_(50)
    linear = theirs.to_distance_weights[0]
    encoding = copied(
        encoding_of({"name": "inkling", "basis": 5, "max_distance": 10}),
        weights__weight=linear.weight,
        weights__bias=linear.bias,
        bank=theirs.distance_bank,
    )
    assert (bias_of(encoding, layer) - causal(theirs(layer.x))).abs().max() < CLOSE


# --- encodings inside an attention layer of transformers


def test_transformer_xl_is_xlnet_with_its_relative_shift() -> None:
    from transformers import XLNetConfig, XLNetModel

    layer = Layer.random()
    model = XLNetModel(XLNetConfig(vocab_size=8, d_model=WIDTH, n_layer=1, n_head=HEADS, d_inner=8, attn_type="uni"))
    attention = model.layer[0].rel_attn.eval()
    with torch.no_grad():
        for parameter in (attention.r, attention.r_w_bias, attention.r_r_bias):
            parameter.normal_(0, WIDTH**-0.5)
        codes = model.relative_positional_encoding(LENGTH, LENGTH, bsz=BATCH)  # distances LENGTH ... 0
        q, k = (y.permute(2, 0, 1, 3) for y in (layer.q, layer.k))  # (T, B, H, d)
        projected = torch.einsum("ibh,hnd->ibnd", codes, attention.r)
        mask = (~CAUSAL)[:, :, None, None].float().expand(-1, -1, BATCH, HEADS)
        identity = torch.eye(LENGTH)[:, None, None, :].expand(-1, BATCH, HEADS, -1)
        theirs = attention.rel_attn_core(q, k, identity, projected, attn_mask=mask)  # the weights
    encoding = copied(encoding_of("transformer_xl"), w_r=attention.r, u=attention.r_w_bias, v=attention.r_r_bias)
    for kernel in ("dense", "chunked"):
        assert (layer.run(encoding, kernel) - theirs.permute(1, 2, 0, 3)).abs().max() < CLOSE


def test_shaw_keys_are_relative_key_of_wav2vec2_bert() -> None:
    from transformers.models.wav2vec2_bert.configuration_wav2vec2_bert import Wav2Vec2BertConfig
    from transformers.models.wav2vec2_bert.modeling_wav2vec2_bert import Wav2Vec2BertSelfAttention

    config = Wav2Vec2BertConfig(
        hidden_size=WIDTH,
        num_attention_heads=HEADS,
        position_embeddings_type="relative_key",
        left_max_position_embeddings=5,
        right_max_position_embeddings=3,
        attn_implementation="eager",
    )
    theirs, layer = Wav2Vec2BertSelfAttention(config).eval(), Layer.random()
    mask = torch.zeros(LENGTH, LENGTH).masked_fill(~CAUSAL, torch.finfo(torch.float32).min)[None, None]
    with torch.no_grad():
        output, _ = theirs(layer.x, mask)
        heads = [
            p(layer.x).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for p in (theirs.linear_q, theirs.linear_k, theirs.linear_v)
        ]
    layer.q, layer.k, layer.v = heads
    far_to_near = theirs.distance_embedding.weight[:6]  # distances 5 ... 0; the rest are for keys in the future
    encoding = copied(encoding_of({"name": "shaw_keys", "max_distance": 5}), a=far_to_near.flip(0))
    mixed = theirs.linear_out(layer.run(encoding, "chunked").transpose(1, 2).flatten(2))
    assert (mixed - output).abs().max() < CLOSE


def test_deberta_is_disentangled_self_attention() -> None:
    """A released layer with our causal mask put on; its table has rows for both directions, ours for keys behind."""
    from transformers.models.deberta_v2.configuration_deberta_v2 import DebertaV2Config
    from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention

    size = 6
    config = DebertaV2Config(
        hidden_size=WIDTH,
        num_attention_heads=HEADS,
        relative_attention=True,
        max_relative_positions=size,
        pos_att_type=["c2p", "p2c"],
        share_att_key=False,
        position_buckets=-1,
    )
    theirs, layer, table = DisentangledSelfAttention(config).eval(), Layer.random(), torch.randn(2 * size, WIDTH)
    theirs.pos_key_proj.bias.data.zero_()  # ours has none
    theirs.pos_query_proj.bias.data.zero_()
    with torch.no_grad():
        _, weights = theirs(layer.x, CAUSAL[None, None], output_attentions=True, rel_embeddings=table)
        heads = [p(layer.x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for p in (theirs.query_proj, theirs.key_proj)]
    layer.q, layer.k = heads
    encoding = copied(
        encoding_of({"name": "deberta", "size": size}),
        rows=table[size:],
        w_k=theirs.pos_key_proj.weight.T.unflatten(1, (HEADS, -1)),
        w_q=theirs.pos_query_proj.weight.T.unflatten(1, (HEADS, -1)),
    )
    for kernel in ("dense", "chunked"):
        assert (layer.run(encoding, kernel) - weights).abs().max() < CLOSE


def test_sinusoids_are_those_of_x_transformers() -> None:
    theirs = x_transformers.ScaledSinusoidalEmbedding(WIDTH)
    with torch.no_grad():
        theirs.scale.fill_(1.0)
        expected = theirs(torch.empty(1, LENGTH, WIDTH))
    assert (encoding_of("sinusoidal_concatenated").code(torch.arange(LENGTH)) - expected).abs().max() < CLOSE


def test_a_block_in_the_middle_is_cut_out_of_the_whole() -> None:
    """What the tests above compare is one block; kernels ask for others."""
    layer = Layer.random()
    for name in ("transformer_xl", "deberta", "cope", "shaw_keys", "dape_fire", "path"):
        encoding = encoding_of(name)
        context = Context(layer.positions, LENGTH, TRAIN_LENGTH, LENGTH, True)
        prepared, digest = encoding.prepare(context), encoding.digest(encoding.state(layer.x), context)
        rows, columns = slice(9, 15), slice(0, 15)
        block = Block(context, prepared, digest, rows, columns)
        part = encoding.scores(layer.q[:, :, rows], layer.k[:, :, columns], HEAD_DIM**-0.5, block)
        whole = ours(encoding, layer)[:, :, rows, columns]
        assert (torch.where(CAUSAL[rows, columns], part, 0) - whole).abs().max() < 1e-5, name
