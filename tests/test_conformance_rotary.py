"""Rotary schemes against other people's code: transformers, x-transformers and rotary-embedding-torch.

The references build their own tables from their own configuration; ours are never fed to them.
"""

import math

import pytest
import torch
from torch import Tensor

from model.extension.base import make
from model.pe.base import Context, PositionEncoding
from model.pe.registry import encodings_for
from model.pe.rope import Rope
from model.shape import Shape

transformers = pytest.importorskip("transformers")

from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS  # noqa: E402

HEADS, LENGTH = 3, 50


def shape(head_dim: int, train_length: int) -> Shape:
    return Shape(HEADS * head_dim, HEADS, HEADS, head_dim, layers=1, train_length=train_length)


def context(length: int = LENGTH, train_length: int = 32) -> Context:
    return Context(torch.arange(length)[None], length, train_length, length, contiguous=True)


def vectors(head_dim: int, length: int = LENGTH) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(2, HEADS, length, head_dim, generator=generator) for _ in range(2))
    return q, k


def mapped(scheme: PositionEncoding, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Our queries and keys after the encoding."""
    here = context(q.shape[2])
    prepared = scheme.prepare(here)
    with torch.no_grad():
        return scheme.map_q(q, here, prepared, {}), scheme.map_k(k, here, prepared, {})


def close(ours: Tensor, theirs: Tensor, tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(ours.double(), theirs.double(), atol=tolerance, rtol=tolerance)


# ---------------------------------------------------------------------------------------------- layouts


@pytest.mark.parametrize(
    ("family", "config", "layout", "partial"),
    [
        ("llama", "LlamaConfig", "half", 1.0),
        ("gpt_neox", "GPTNeoXConfig", "half", 0.25),
        ("cohere2", "Cohere2Config", "interleaved", 1.0),
        ("glm", "GlmConfig", "interleaved", 0.5),
    ],
)
def test_layouts_and_partial_rotation(family: str, config: str, layout: str, partial: float) -> None:
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
    scheme = encodings_for(shape(d, 32), {"name": "rope", "layout": layout, "partial": partial})[0]
    for ours, reference in zip(mapped(scheme, q, k), theirs, strict=True):
        close(ours, reference, 1e-5)
    other = {"half": "interleaved", "interleaved": "half"}[layout]
    wrong = encodings_for(shape(d, 32), {"name": "rope", "layout": other, "partial": partial})[0]
    assert (mapped(wrong, q, k)[0] - theirs[0]).abs().max() > 0.1


def test_gptj_layout() -> None:
    from transformers.models.gptj.modeling_gptj import apply_rotary_pos_emb, create_sinusoidal_positions

    d = 32
    q, k = vectors(d)
    sin, cos = create_sinusoidal_positions(LENGTH, d // 2)[None].repeat(2, 1, 1).split(d // 4, -1)
    scheme = encodings_for(shape(d, 32), {"name": "rope", "layout": "interleaved", "partial": 0.5})[0]
    for ours, x in zip(mapped(scheme, q, k), (q, k), strict=True):
        turned = apply_rotary_pos_emb(x[..., : d // 2].transpose(1, 2), sin, cos).transpose(1, 2)
        close(ours, torch.cat([turned, x[..., d // 2 :]], -1), 1e-5)


def test_layouts_are_equal_up_to_a_permutation_of_channels() -> None:
    d = 32
    q, k = vectors(d)
    order = torch.arange(d).view(2, d // 2).T.flatten()  # half channel of each interleaved one
    half, interleaved = (encodings_for(shape(d, 32), {"name": "rope", "layout": x})[0] for x in ("half", "interleaved"))
    a, b = mapped(half, q, k)
    c, e = mapped(interleaved, q[..., order], k[..., order])
    close(a @ b.mT, c @ e.mT, 1e-5)


def test_rotary_embedding_torch() -> None:
    library = pytest.importorskip("rotary_embedding_torch")
    q, k = vectors(32)
    theirs = library.RotaryEmbedding(dim=32)
    scheme = encodings_for(shape(32, 32), {"name": "rope", "layout": "interleaved"})[0]
    for ours, x in zip(mapped(scheme, q, k), (q, k), strict=True):
        close(ours, theirs.rotate_queries_or_keys(x), 1e-5)


# ---------------------------------------------------------------------------------------------- frequency rules


def reference(kind: str, d: int, base: float, maximum: int, length: int | None = None, **parameters: object):
    """inv_freq and the factor of cos and sin, by transformers."""
    parameters = {"rope_type": kind, "rope_theta": base, **parameters}
    config = transformers.LlamaConfig(
        hidden_size=HEADS * d,
        num_attention_heads=HEADS,
        head_dim=d,
        max_position_embeddings=maximum,
        rope_parameters=parameters,
    )
    return ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"), length)


def scaled(extension: dict, d: int, base: float, train_length: int, length: int) -> tuple[Tensor, float]:
    here = shape(d, train_length)
    rope = encodings_for(here, {"name": "rope", "base": base})[0]
    longer = make(here, extension).extend(rope, length)
    assert isinstance(longer, Rope)
    return longer.scaled(context(length, train_length))


def same(ours: tuple[Tensor, float], theirs: tuple[Tensor, float]) -> None:
    torch.testing.assert_close(ours[0].double(), theirs[0].double(), atol=0, rtol=2e-6)
    assert math.isclose(ours[1], theirs[1], rel_tol=1e-6)


SETTINGS = [
    (128, 1e4, 4096, 8.0),
    (32, 1e4, 128, 8.0),
    (64, 5e5, 2048, 4.0),
    (64, 1e4, 131072, 16.0),
    (16, 1e4, 64, 2.5),
]
settings = pytest.mark.parametrize(("d", "base", "train", "s"), SETTINGS)


@settings
def test_linear(d: int, base: float, train: int, s: float) -> None:
    same(scaled({"name": "pi"}, d, base, train, int(s * train)), reference("linear", d, base, train, factor=s))


@settings
@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_dynamic(d: int, base: float, train: int, s: float, factor: float) -> None:
    for length in (train // 2, train, train + 1, int(s * train)):
        theirs = reference("dynamic", d, base, train, length, factor=factor)
        same(scaled({"name": "dynamic_ntk", "factor": factor}, d, base, train, length), theirs)


def test_the_papers_dynamic_rule_is_factor_one() -> None:
    d, base, train, length = 64, 1e4, 128, 500
    theirs = reference("dynamic", d, base, train, length, factor=1.0)
    same(scaled({"name": "ntk", "factor": length / train}, d, base, train, length), theirs)
    other = reference("dynamic", d, base, train, length, factor=2.0)
    assert (other[0] - theirs[0]).abs().max() > 1e-4


@settings
@pytest.mark.parametrize("truncate", [True, False])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 32.0), (2.0, 5.0)])
def test_yarn_code(d: int, base: float, train: int, s: float, truncate: bool, alpha: float, beta: float) -> None:
    theirs = reference(
        "yarn",
        d,
        base,
        int(s * train),
        factor=s,
        original_max_position_embeddings=train,
        beta_fast=beta,
        beta_slow=alpha,
        truncate=truncate,
    )
    ours = {"name": "yarn_code", "alpha": alpha, "beta": beta, "truncate": truncate}
    same(scaled(ours, d, base, train, int(s * train)), theirs)


def test_yarn_amplitude_can_be_given() -> None:
    theirs = reference("yarn", 64, 1e4, 1024, factor=8.0, original_max_position_embeddings=128, attention_factor=1.5)
    ours = {"name": "yarn_code", "beta": 32.0, "amplitude": 1.5}
    same(scaled(ours, 64, 1e4, 128, 1024), theirs)


def test_the_papers_yarn_is_another_function_than_the_released_code() -> None:
    """At head 128, L = 4,096 and s = 8, 25 of the 64 frequencies differ by more than 1 %."""
    theirs = reference("yarn", 128, 1e4, 32768, factor=8.0, original_max_position_embeddings=4096)
    paper = scaled({"name": "yarn"}, 128, 1e4, 4096, 32768)
    assert math.isclose(paper[1], theirs[1])
    assert ((paper[0] / theirs[0] - 1).abs() > 0.01).sum() == 25


@settings
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 4.0), (1.0, 32.0), (2.0, 5.0)])
def test_llama3_and_ntk_by_parts(d: int, base: float, train: int, s: float, alpha: float, beta: float) -> None:
    theirs = reference(
        "llama3",
        d,
        base,
        int(s * train),
        factor=s,
        original_max_position_embeddings=train,
        low_freq_factor=alpha,
        high_freq_factor=beta,
    )
    for name in ("llama3", "ntk_by_parts"):
        same(scaled({"name": name, "alpha": alpha, "beta": beta}, d, base, train, int(s * train)), theirs)


@settings
def test_longrope(d: int, base: float, train: int, s: float) -> None:
    short = [1 + 0.01 * c for c in range(d // 2)]
    long = [1 + 0.3 * c for c in range(d // 2)]
    for length in (train // 2, train, train + 1, int(s * train)):
        theirs = reference(
            "longrope",
            d,
            base,
            int(s * train),
            length,
            factor=s,
            original_max_position_embeddings=train,
            short_factor=short,
            long_factor=long,
        )
        ours = {"name": "longrope", "factor": s, "short": short, "long": long}
        same(scaled(ours, d, base, train, length), theirs)


@pytest.mark.parametrize("p", [0.25, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("d", [16, 64])
def test_proportional_is_p_rope(p: float, d: int) -> None:
    theirs = reference("proportional", d, 1e4, 128, partial_rotary_factor=p)
    scheme = encodings_for(shape(d, 128), {"name": "p_rope", "p": p})[0]
    same(scheme.scaled(context()), theirs)


# ---------------------------------------------------------------------------------------------- x-transformers


def test_xpos() -> None:
    library = pytest.importorskip("x_transformers.x_transformers")
    d = 32
    q, k = vectors(d)
    freqs, scale = library.RotaryEmbedding(d, use_xpos=True)(torch.arange(LENGTH))
    a = library.apply_rotary_pos_emb(q, freqs, scale)
    b = library.apply_rotary_pos_emb(k, freqs, scale**-1)
    close(logits("xpos", q, k), torch.tril(a @ b.mT), 2e-5)


def test_pope() -> None:
    library = pytest.importorskip("x_transformers.x_transformers")
    d = 32
    q, k = vectors(d)
    scheme = encodings_for(shape(d, 32), "pope")[0]
    theirs = library.PolarEmbedding(d, HEADS)
    delta = torch.empty(HEADS, 1, d).uniform_(-7, 1, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        scheme.delta.copy_(delta[:, 0])
        theirs.learned_bias.copy_(delta)
        freqs, bias = theirs(torch.arange(LENGTH))
        reference = library.apply_polar_pos_emb(q, freqs) @ library.apply_polar_pos_emb(k, freqs + bias).mT
    a, b = mapped(scheme, q, k)
    close(a @ b.mT, reference, 1e-4)


def logits(name: str, q: Tensor, k: Tensor) -> Tensor:
    """Our logits of all pairs that are not in the future, 0 elsewhere, without the scaling."""
    from model.pe.base import Block

    scheme, here = encodings_for(shape(q.shape[-1], 32), name)[0], context(q.shape[2])
    q, k = mapped(scheme, q, k)
    whole = slice(0, q.shape[2])
    return torch.tril(scheme.scores(q, k, 1.0, Block(here, None, None, whole, whole)))
