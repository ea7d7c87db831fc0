"""Content-dependent encodings with some parameters set so that they must be another encoding, and other edges."""

import pytest
import slow_biases as slow
import torch
from one_layer import HEADS, LENGTH, TRAIN_LENGTH, Layer, encoding_of
from torch import Tensor

from model.errors import ModelError
from model.pe.base import Block, Context, PositionEncoding

CLOSE = 3e-6


def set_to(encoding: PositionEncoding, **values: float | Tensor) -> PositionEncoding:
    """The encoding with these parameters filled; a name may be the first part of several."""
    with torch.no_grad():
        for name, parameter in encoding.named_parameters():
            for start, value in values.items():
                if name.replace(".", "_").startswith(start):
                    parameter.copy_(torch.as_tensor(value).expand_as(parameter))
    return encoding


LIMITS = {
    "fox with constant gates is ALiBi": (
        lambda: set_to(encoding_of("fox"), linear_weight=0, linear_bias=log_odds(slow.SLOPES[4])),
        "alibi",
    ),
    "cable with constant gates is ALiBi": (
        lambda: set_to(encoding_of("cable"), linear_weight=0, linear_bias=-log_odds(slow.SLOPES[4])),
        "alibi",
    ),
    "an open forget gate is NoPE": (lambda: set_to(encoding_of("fox"), linear_weight=0, linear_bias=60), "nope"),
    "DAPE without its last layer is its base": (lambda: set_to(encoding_of("dape_alibi"), out=0), "alibi"),
    "zero vectors make Shaw NoPE": (lambda: set_to(encoding_of("shaw"), a=0, b=0), "nope"),
    "zero vectors make CoPE NoPE": (lambda: set_to(encoding_of("cope"), rows=0), "nope"),
    "without W_R and u Transformer-XL is NoPE": (lambda: set_to(encoding_of("transformer_xl"), w_r=0, u=0), "nope"),
    "a closed beta makes PaTH NoPE": (lambda: set_to(encoding_of("path"), beta_weight=0, beta_bias=-60), "nope"),
    "steps of one make a clock RoPE's": (lambda: set_to(encoding_of("selective_rope"), linear=0), "rope"),
    "Toeplitz holds any table, ALiBi's too": (
        lambda: set_to(encoding_of({"name": "toeplitz", "max_distance": LENGTH}), weight=alibi_table()),
        "alibi",
    ),
    "a fixed mixture of curves is a table": (
        lambda: set_to(
            encoding_of({"name": "inkling", "basis": HEADS, "max_distance": LENGTH + 1}),
            weights_weight=0,
            weights_bias=torch.eye(HEADS).flatten(),
            bank=alibi_table().T,
        ),
        "alibi",
    ),
}


def log_odds(slopes: list[float]) -> Tensor:
    """z with ln sigmoid(z) = -slope."""
    kept = torch.tensor(slopes, dtype=torch.float64).neg().exp()
    return torch.log(kept / (1 - kept)).float()


def alibi_table() -> Tensor:
    """(LENGTH + 1, HEADS)"""
    return -torch.arange(LENGTH + 1.0)[:, None] * torch.tensor(slow.SLOPES[4])


@pytest.mark.parametrize("limit", LIMITS)
def test_limits(limit: str) -> None:
    made, other = LIMITS[limit]
    layer = Layer.random().with_values()
    expected = layer.run(encoding_of(other), "dense")
    for kernel in ("dense", "chunked"):
        assert (layer.run(made(), kernel) - expected).abs().max() < CLOSE


def test_path_does_not_depend_on_the_size_of_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    encoding, layer = encoding_of("path"), Layer.random()
    whole = layer.run(encoding, "dense")
    for keys in (1, 4, 64):
        monkeypatch.setattr("model.pe.path.KEYS", keys)
        assert (layer.run(encoding, "chunked") - whole).abs().max() < CLOSE


def test_log_gates_do_not_lose_near_tokens_far_out() -> None:
    """At token 50,000 the running sum is -35,000, where float32 steps by 0.004; differences of neighbours are exact."""
    encoding, n = encoding_of("fox"), 50_000
    context = Context(torch.arange(n)[None], 1, TRAIN_LENGTH, n, True)
    c = encoding.content_features({"log_forget": torch.full((1, n, HEADS), -0.7)}, context)
    bias = encoding.bias(Block(context, None, c, slice(n - 1, n), slice(n - 3, n)))
    assert torch.allclose(bias[0, :, 0], torch.tensor([-1.4, -0.7, 0.0]), rtol=0, atol=1e-6)


def test_options_that_cannot_work_are_refused() -> None:
    for pe in (
        {"name": "fox", "keep": 1.0},
        {"name": "cope", "size": 1},
        {"name": "shaw", "max_distance": 0},
        {"name": "deberta", "size": 0},
        {"name": "path", "conv": 0},
        {"name": "selective_rope", "base": 0.0},
        {"name": "inkling", "basis": 0},
        {"name": "dape_alibi", "base": "rope"},
        {"name": "dape_alibi", "base": "window"},
        {"name": "dape_alibi", "base": 7},
        {"name": "fire", "threshold": 0},
        {"name": "sandwich", "dims": 3},
        {"name": "toeplitz", "max_distance": 0},
    ):
        with pytest.raises(ModelError, match=r"pe\.\w+=.*\n?.*Try |one of|expected"):
            encoding_of(pe)
