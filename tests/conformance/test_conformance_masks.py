"""Masks, sinks and layer schedules against transformers: what the named hybrids are modelled on."""

import pytest
import torch
from seen_keys import context, visible

from model.attention.dispatch import attend
from model.attention.logits import LogitsSpec, SharedAcrossLayers
from model.pe.base import PositionEncoding
from model.pe.registry import encodings_for, schemes
from model.pe.rope import Rope
from model.shape import Shape

models = pytest.importorskip("transformers.models")
LENGTH = 50


def layers_of(pe: str | dict, layers: int) -> list[PositionEncoding]:
    return encodings_for(Shape(width=32, heads=4, kv_heads=4, head_dim=8, layers=layers, train_length=64), pe)


@pytest.mark.target(
    "`window`, `chunk`", "transformers `masking_utils`, sliding window and chunked", "which keys are seen", limit=0
)
@pytest.mark.parametrize("size", [1, 5, 16, 64])
def test_masks(size: int, agree) -> None:
    theirs = masks_of_transformers(size)
    index = torch.arange(LENGTH)
    for name, function in theirs.items():
        expected = function(torch.tensor(0), torch.tensor(0), index[:, None], index)
        agree(visible(layers_of({"name": name, "size": size}, 4)[0], LENGTH)[0], expected)


@pytest.mark.target(
    "`window`, `chunk` in packed rows", "transformers `packed_sequence_mask_function`", "which keys are seen", limit=0
)
@pytest.mark.parametrize("size", [5, 16, 64])
def test_packed_masks(size: int, agree) -> None:
    from transformers.masking_utils import and_masks, packed_sequence_mask_function

    documents = torch.arange(LENGTH).div(13, rounding_mode="floor").expand(2, -1) + torch.tensor([[0], [5]])
    index = torch.arange(LENGTH)
    for name, function in masks_of_transformers(size).items():
        whole = and_masks(function, packed_sequence_mask_function(documents))
        found = visible(layers_of({"name": name, "size": size}, 4)[0], LENGTH, documents)
        for row in range(2):
            agree(found[row], whole(torch.tensor(row), torch.tensor(0), index[:, None], index))


def masks_of_transformers(size: int) -> dict:
    from transformers.masking_utils import chunked_causal_mask_function, sliding_window_causal_mask_function

    nothing = torch.zeros(2, dtype=torch.int64)  # tokens of padding on the left
    return {
        "window": sliding_window_causal_mask_function(size),
        "chunk": chunked_causal_mask_function(size, nothing),
    }


@pytest.mark.target("`sink`", "transformers `gpt_oss.eager_attention_forward`", "output of attention", limit=1e-6)
def test_sinks(agree) -> None:
    from transformers.models.gpt_oss import modeling_gpt_oss as modeling

    sizes = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    module = modeling.GptOssAttention(modeling.GptOssConfig(**sizes, num_hidden_layers=2), 0)
    sink = layers_of("sink", 2)[0]
    logit = torch.tensor([-2.0, 0.3, 1.0, 4.0])
    with torch.no_grad():
        module.sinks.copy_(logit)
        sink.get_parameter("logit").copy_(logit)
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, 4, 12, 8, generator=generator)
    k, v = torch.randn(2, 2, 2, 12, 8, generator=generator)
    mask = torch.full((12, 12), float("-inf")).triu(1)[None, None]
    expected, _ = modeling.eager_attention_forward(module, q, k, v, mask, scaling=8**-0.5)
    out = attend(q, k, v, LogitsSpec(sink, context(12), SharedAcrossLayers(), {}, 8**-0.5))
    agree(out.transpose(1, 2), expected)


@pytest.mark.target(
    "`smollm3`, `cohere2`, `irope`, `gpt_oss`, `gemma2`, `olmo3`",
    "configurations in transformers",
    "which layers rotate, which are limited, base",
    limit=0,
)
@pytest.mark.parametrize(
    ("pe", "config", "limited", "base"),
    [
        ("smollm3", "SmolLM3Config", (), 2_000_000.0),
        ("cohere2", "Cohere2Config", ("sliding_attention",), None),
        ("irope", "Llama4TextConfig", ("chunked_attention",), 500_000.0),
        ("gpt_oss", "GptOssConfig", ("sliding_attention",), 150_000.0),
        ("gemma2", "Gemma2Config", ("sliding_attention",), 10_000.0),
        ("olmo3", "Olmo3Config", ("sliding_attention",), 500_000.0),
    ],
)
def test_schedules(pe: str, config: str, limited: tuple[str, ...], base: float | None, agree) -> None:
    import transformers

    theirs = getattr(transformers, config)(num_hidden_layers=8)
    ours = layers_of(pe, 8)
    if hasattr(theirs, "no_rope_layers"):  # 1 where there is rope
        rotated = [bool(flag) for flag in theirs.no_rope_layers]
    else:  # Command R7B rotates where it slides, the others everywhere
        rotated = [pe != "cohere2" or kind == "sliding_attention" for kind in theirs.layer_types]
    agree(
        torch.tensor([layer.window_size() is not None for layer in ours]),
        torch.tensor([kind in limited for kind in theirs.layer_types]),
    )
    agree(torch.tensor([bool(bases(layer)) for layer in ours]), torch.tensor(rotated))
    if base is not None:
        assert set().union(*(bases(layer) for layer in ours)) == {base} == set(thetas(theirs.rope_parameters))


def bases(encoding: PositionEncoding) -> set[float]:
    return {component.base for component in encoding.components() if isinstance(component, Rope)}


def thetas(parameters: dict) -> list[float]:
    """Every base in a rope configuration, which may hold one for each kind of layer."""
    if "rope_theta" in parameters:
        return [parameters["rope_theta"]]
    return [theta for part in parameters.values() if isinstance(part, dict) for theta in thetas(part)]


@pytest.mark.target(
    "`gptj`, `gpt_neox`, `chatglm2`", "configurations in transformers", "share of the channels that turn", limit=0
)
@pytest.mark.parametrize(
    ("pe", "config", "share", "layout"),
    [
        ("gptj", "GPTJConfig", lambda c: c.rotary_dim / (c.n_embd / c.n_head), "interleaved"),
        ("gpt_neox", "GPTNeoXConfig", lambda c: c.rope_parameters["partial_rotary_factor"], "half"),
        ("chatglm2", "GlmConfig", lambda c: c.rope_parameters["partial_rotary_factor"], "interleaved"),
    ],
)
def test_rotary_shares(pe: str, config: str, share, layout: str, agree) -> None:
    import transformers

    options = schemes.resolve(pe)
    agree(torch.tensor(options["partial"]), torch.tensor(share(getattr(transformers, config)())))
    assert (options["layout"], options["base"]) == (layout, 10_000.0)
