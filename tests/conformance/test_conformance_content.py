"""Content-dependent encodings against the implementations others run, which never see a table of ours."""

import math

import pytest
import torch
from layer_logits import CAUSAL, bias_of, causal, content, copied, logits_of
from one_layer import BATCH, HEAD_DIM, HEADS, LENGTH, TRAIN_LENGTH, WIDTH, Layer, encoding_of
from torch import Tensor, nn

from model.pe.base import Block, Context
from model.pe.registry import encodings_for
from model.shape import Shape

pytest.importorskip("transformers", minversion="5.3")
x_transformers = pytest.importorskip("x_transformers.x_transformers")


def heads_of(x: Tensor, *projections: nn.Module) -> list[Tensor]:
    """(B, T, D) through each projection, as (B, H, T, d)."""
    return [projection(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for projection in projections]


@pytest.mark.target("`cope`", "x-transformers `CoPE`", "what is added to q k")
def test_cope(agree) -> None:
    layer = Layer.random()
    theirs = x_transformers.CoPE(dim=HEAD_DIM, heads=HEADS, max_pos=8)
    with torch.no_grad():
        theirs.pos_emb.copy_(torch.randn(8, HEAD_DIM, generator=torch.Generator().manual_seed(0)))
    encoding = copied(encoding_of({"name": "cope", "size": 8}), rows=theirs.pos_emb)
    agree(bias_of(encoding, layer), causal(theirs(layer.q, content(layer).masked_fill(~CAUSAL, -torch.inf))))


@pytest.mark.target("`fox`", "x-transformers `DataDependentAlibi`", "bias")
def test_fox(agree) -> None:
    layer = Layer.random()
    theirs = x_transformers.DataDependentAlibi(dim=WIDTH, heads=HEADS)
    linear = theirs.to_forget_gates[0]
    encoding = copied(encoding_of("fox"), linear__weight=linear.weight, linear__bias=linear.bias)
    agree(bias_of(encoding, layer), causal(theirs(layer.x)))


@pytest.mark.target("`fox`, keep = sigmoid(5)", "x-transformers `DataDependentAlibi`", "initial gate")
def test_the_gate_of_fox_can_begin_as_theirs(agree) -> None:
    shape = Shape(WIDTH, HEADS, HEADS, HEAD_DIM, 1, TRAIN_LENGTH)
    new = encodings_for(shape, {"name": "fox", "keep": 1 / (1 + math.exp(-5))})[0]
    new.reset(torch.Generator())
    agree(new.get_parameter("linear.bias"), x_transformers.DataDependentAlibi(WIDTH, HEADS).to_forget_gates[0].bias)


@pytest.mark.target("`inkling`", "x-transformers `RelativeProjPositionalBias`", "bias")
def test_inkling(agree) -> None:
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
    agree(bias_of(encoding, layer), causal(theirs(layer.x)))


@pytest.mark.target(
    "`transformer_xl`", "transformers `XLNetRelativeAttention` with `rel_shift`", "attention weights", limit=2e-6
)
def test_transformer_xl(agree) -> None:
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
        agree(layer.run(encoding, kernel), theirs.permute(1, 2, 0, 3))


@pytest.mark.target(
    "`shaw_keys`", "transformers `Wav2Vec2BertSelfAttention`, relative_key", "output of the layer", limit=2e-6
)
def test_shaw_keys(agree) -> None:
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
        layer.q, layer.k, layer.v = heads_of(layer.x, theirs.linear_q, theirs.linear_k, theirs.linear_v)
        far_to_near = theirs.distance_embedding.weight[:6]  # distances 5 ... 0; the rest are for keys in the future
        encoding = copied(encoding_of({"name": "shaw_keys", "max_distance": 5}), a=far_to_near.flip(0))
        agree(theirs.linear_out(layer.run(encoding, "chunked").transpose(1, 2).flatten(2)), output)


@pytest.mark.target(
    "`deberta`", "transformers `DisentangledSelfAttention` under a causal mask", "attention weights", limit=2e-6
)
def test_deberta(agree) -> None:
    """Their table has rows for both directions, ours for keys behind."""
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
        layer.q, layer.k = heads_of(layer.x, theirs.query_proj, theirs.key_proj)
    encoding = copied(
        encoding_of({"name": "deberta", "size": size}),
        rows=table[size:],
        w_k=theirs.pos_key_proj.weight.T.unflatten(1, (HEADS, -1)),
        w_q=theirs.pos_query_proj.weight.T.unflatten(1, (HEADS, -1)),
    )
    for kernel in ("dense", "chunked"):
        agree(layer.run(encoding, kernel), weights)


@pytest.mark.parametrize("name", ["transformer_xl", "deberta", "cope", "shaw_keys", "dape_fire", "path"])
def test_a_block_in_the_middle_is_cut_out_of_the_whole(name: str) -> None:
    """What the tests above compare is one block; kernels ask for others."""
    layer, encoding = Layer.random(), encoding_of(name)
    context = Context(layer.positions, LENGTH, TRAIN_LENGTH, LENGTH, True)
    prepared, digest = encoding.prepare(context), encoding.content_features(encoding.token_state(layer.x), context)
    rows, columns = slice(9, 15), slice(0, 15)
    block = Block(context, prepared, digest, rows, columns)
    part = encoding.scores(layer.q[:, :, rows], layer.k[:, :, columns], HEAD_DIM**-0.5, block)
    whole = logits_of(encoding, layer)[:, :, rows, columns]
    assert (torch.where(CAUSAL[rows, columns], part, 0) - whole).abs().max() < 1e-5
