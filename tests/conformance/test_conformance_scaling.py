"""Rules for rotary frequencies against those of transformers, which build theirs from their own configuration."""

import math
from collections.abc import Callable

import pytest
import torch
from rotary_vectors import HEADS, context, encoding_of, shape
from torch import Tensor

from model.extension.base import make
from model.pe.rope import Rope

transformers = pytest.importorskip("transformers")

from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS  # noqa: E402


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
    longer = make(shape(d, train_length), extension)
    longer = longer.extend(encoding_of({"name": "rope", "base": base}, d, train_length), length)
    assert isinstance(longer, Rope)
    return longer.scaled(context(length, train_length))


Scaled = tuple[Tensor, float]


@pytest.fixture
def same(agree) -> Callable[[Scaled, Scaled], None]:
    """Frequencies and the amplitude of cos and sin agree; transformers computes them in float32."""

    def check(ours: Scaled, theirs: Scaled) -> None:
        for mine, other in zip(ours, theirs, strict=True):
            agree(torch.as_tensor(mine), torch.as_tensor(other), relative=True)

    return check


SETTINGS = [
    (128, 1e4, 4096, 8.0),
    (32, 1e4, 128, 8.0),
    (64, 5e5, 2048, 4.0),
    (64, 1e4, 131072, 16.0),
    (16, 1e4, 64, 2.5),
]
settings = pytest.mark.parametrize(("d", "base", "train", "s"), SETTINGS)


@pytest.mark.target("`pi`", "transformers `ROPE_INIT_FUNCTIONS['linear']`", "frequencies and amplitude, relative")
@settings
def test_linear(d: int, base: float, train: int, s: float, same) -> None:
    same(scaled({"name": "pi"}, d, base, train, int(s * train)), reference("linear", d, base, train, factor=s))


@pytest.mark.target(
    "`dynamic_ntk`", "transformers `ROPE_INIT_FUNCTIONS['dynamic']`", "frequencies and amplitude, relative"
)
@settings
@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_dynamic(d: int, base: float, train: int, s: float, factor: float, same) -> None:
    for length in (train // 2, train, train + 1, int(s * train)):
        theirs = reference("dynamic", d, base, train, length, factor=factor)
        same(scaled({"name": "dynamic_ntk", "factor": factor}, d, base, train, length), theirs)


@pytest.mark.target(
    "`ntk`, factor l / L",
    "transformers `ROPE_INIT_FUNCTIONS['dynamic']`, factor 1",
    "frequencies and amplitude, relative",
)
def test_the_papers_dynamic_rule_is_factor_one(same) -> None:
    d, base, train, length = 64, 1e4, 128, 500
    theirs = reference("dynamic", d, base, train, length, factor=1.0)
    same(scaled({"name": "ntk", "factor": length / train}, d, base, train, length), theirs)
    other = reference("dynamic", d, base, train, length, factor=2.0)
    assert (other[0] - theirs[0]).abs().max() > 1e-4


@pytest.mark.target("`yarn_code`", "transformers `ROPE_INIT_FUNCTIONS['yarn']`", "frequencies and amplitude, relative")
@settings
@pytest.mark.parametrize("truncate", [True, False])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 32.0), (2.0, 5.0)])
def test_yarn_code(d: int, base: float, train: int, s: float, truncate: bool, alpha: float, beta: float, same) -> None:
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


@pytest.mark.target(
    "`yarn_code`, amplitude given", "transformers `ROPE_INIT_FUNCTIONS['yarn']`", "frequencies and amplitude, relative"
)
def test_yarn_amplitude_can_be_given(same) -> None:
    theirs = reference("yarn", 64, 1e4, 1024, factor=8.0, original_max_position_embeddings=128, attention_factor=1.5)
    ours = {"name": "yarn_code", "beta": 32.0, "amplitude": 1.5}
    same(scaled(ours, 64, 1e4, 128, 1024), theirs)


def test_the_papers_yarn_is_another_function_than_the_released_code() -> None:
    """At head 128, L = 4,096 and s = 8, 25 of the 64 frequencies differ by more than 1 %."""
    theirs = reference("yarn", 128, 1e4, 32768, factor=8.0, original_max_position_embeddings=4096)
    paper = scaled({"name": "yarn"}, 128, 1e4, 4096, 32768)
    assert math.isclose(paper[1], theirs[1])
    assert ((paper[0] / theirs[0] - 1).abs() > 0.01).sum() == 25


@pytest.mark.target(
    "`llama3`, `ntk_by_parts`", "transformers `ROPE_INIT_FUNCTIONS['llama3']`", "frequencies and amplitude, relative"
)
@settings
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 4.0), (1.0, 32.0), (2.0, 5.0)])
def test_llama3_and_ntk_by_parts(d: int, base: float, train: int, s: float, alpha: float, beta: float, same) -> None:
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


@pytest.mark.target(
    "`longrope`", "transformers `ROPE_INIT_FUNCTIONS['longrope']`", "frequencies and amplitude, relative"
)
@settings
def test_longrope(d: int, base: float, train: int, s: float, same) -> None:
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


@pytest.mark.target(
    "`p_rope`", "transformers `ROPE_INIT_FUNCTIONS['proportional']`", "frequencies and amplitude, relative"
)
@pytest.mark.parametrize("p", [0.25, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("d", [16, 64])
def test_proportional_is_p_rope(p: float, d: int, same) -> None:
    theirs = reference("proportional", d, 1e4, 128, partial_rotary_factor=p)
    scheme = encoding_of({"name": "p_rope", "p": p}, d, 128)
    assert isinstance(scheme, Rope)
    same(scheme.scaled(context()), theirs)
