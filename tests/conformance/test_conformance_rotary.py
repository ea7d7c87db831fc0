"""Rotary schemes against other people's code: transformers, x-transformers and rotary-embedding-torch.

The references build their own tables from their own configuration; ours are never fed to them.
"""

import pytest
import torch
from rotary_vectors import HEADS, LENGTH, encoding_of, logits, mapped, vectors

transformers = pytest.importorskip("transformers")


@pytest.mark.target("`rope`, both layouts, partial", "transformers Llama, GPT-NeoX, Cohere 2, GLM", "rotated q and k")
@pytest.mark.parametrize(
    ("family", "config", "layout", "partial"),
    [
        ("llama", "LlamaConfig", "half", 1.0),
        ("gpt_neox", "GPTNeoXConfig", "half", 0.25),
        ("cohere2", "Cohere2Config", "interleaved", 1.0),
        ("glm", "GlmConfig", "interleaved", 0.5),
    ],
)
def test_layouts_and_partial_rotation(family: str, config: str, layout: str, partial: float, agree) -> None:
    module = __import__(f"transformers.models.{family}.modeling_{family}", fromlist=["_"])
    d = 32
    parameters = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": partial}
    options = {"hidden_size": HEADS * d, "num_attention_heads": HEADS, "num_key_value_heads": HEADS, "head_dim": d}
    if family == "gpt_neox":
        options = {"hidden_size": HEADS * d, "num_attention_heads": HEADS}
    chosen = getattr(transformers, config)(**options, rope_parameters=parameters)
    embedding = next(value for name, value in vars(module).items() if name.endswith("RotaryEmbedding"))(chosen)
    q, k = vectors(d)
    cos, sin = embedding(q, torch.arange(LENGTH)[None])
    theirs = module.apply_rotary_pos_emb(q, k, cos, sin)
    ours = mapped(encoding_of({"name": "rope", "layout": layout, "partial": partial}, d), q, k)
    for mine, reference in zip(ours, theirs, strict=True):
        agree(mine, reference)
    other = {"half": "interleaved", "interleaved": "half"}[layout]
    wrong = mapped(encoding_of({"name": "rope", "layout": other, "partial": partial}, d), q, k)
    assert (wrong[0] - theirs[0]).abs().max() > 0.1


@pytest.mark.target("`rope_interleaved`, half of the channels", "transformers GPT-J", "rotated q and k")
def test_gptj_layout(agree) -> None:
    from transformers.models.gptj.modeling_gptj import apply_rotary_pos_emb, create_sinusoidal_positions

    d = 32
    q, k = vectors(d)
    sin, cos = create_sinusoidal_positions(LENGTH, d // 2)[None].repeat(2, 1, 1).split(d // 4, -1)
    scheme = encoding_of({"name": "rope", "layout": "interleaved", "partial": 0.5}, d)
    for ours, x in zip(mapped(scheme, q, k), (q, k), strict=True):
        turned = apply_rotary_pos_emb(x[..., : d // 2].transpose(1, 2), sin, cos).transpose(1, 2)
        agree(ours, torch.cat([turned, x[..., d // 2 :]], -1))


@pytest.mark.target("`rope_interleaved`", "rotary-embedding-torch `rotate_queries_or_keys`", "rotated q and k")
def test_rotary_embedding_torch(agree) -> None:
    library = pytest.importorskip("rotary_embedding_torch")
    q, k = vectors(32)
    theirs = library.RotaryEmbedding(dim=32)
    for ours, x in zip(mapped(encoding_of("rope_interleaved", 32), q, k), (q, k), strict=True):
        agree(ours, theirs.rotate_queries_or_keys(x))


@pytest.mark.target("`rope`", "`rope_interleaved` of permuted channels", "attention logits")
def test_layouts_are_equal_up_to_a_permutation_of_channels(agree) -> None:
    d = 32
    q, k = vectors(d)
    order = torch.arange(d).view(2, d // 2).T.flatten()  # half channel of each interleaved one
    a, b = mapped(encoding_of("rope", d), q, k)
    c, e = mapped(encoding_of("rope_interleaved", d), q[..., order], k[..., order])
    agree(a @ b.mT / d**0.5, c @ e.mT / d**0.5)


@pytest.mark.target("`xpos`", "x-transformers `RotaryEmbedding(use_xpos)`", "attention logits")
def test_xpos(agree) -> None:
    library = pytest.importorskip("x_transformers.x_transformers")
    d = 32
    q, k = vectors(d)
    freqs, scale = library.RotaryEmbedding(d, use_xpos=True)(torch.arange(LENGTH))
    a = library.apply_rotary_pos_emb(q, freqs, scale)
    b = library.apply_rotary_pos_emb(k, freqs, scale**-1)
    agree(logits("xpos", q, k), torch.tril(a @ b.mT) / d**0.5)


@pytest.mark.target("`pope`", "x-transformers `PolarEmbedding`", "attention logits")
def test_pope(agree) -> None:
    library = pytest.importorskip("x_transformers.x_transformers")
    d = 32
    q, k = vectors(d)
    scheme = encoding_of("pope", d)
    theirs = library.PolarEmbedding(d, HEADS)
    delta = torch.empty(HEADS, 1, d).uniform_(-7, 1, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        scheme.get_parameter("delta").copy_(delta[:, 0])
        theirs.learned_bias.copy_(delta)
        freqs, bias = theirs(torch.arange(LENGTH))
        reference = library.apply_polar_pos_emb(q, freqs) @ library.apply_polar_pos_emb(k, freqs + bias).mT
    a, b = mapped(scheme, q, k)
    agree(a @ b.mT / d**0.5, reference / d**0.5)
