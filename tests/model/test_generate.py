"""Generation: the cache gives the text that no cache gives, past the training length too; sampling is as promised."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import TRAIN_LENGTH, VOCABULARY, shared, tiny, tokens
from torch import Tensor

from data.tokenizers.byte import ByteTokenizer
from longrun.base.errors import ConfigError
from model import build
from model.checkpoint import files as checkpoint
from model.errors import ModelError
from model.generate import generate, sample, stream, truncate
from model.pe.registry import names
from model.transformer import Transformer
from scripts import generate as script


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def greedy(model: Transformer, prompt: Tensor, new_tokens: int) -> Tensor:
    """The likeliest continuation, everything computed anew for every token."""
    text = prompt
    for _ in range(new_tokens):
        text = torch.cat([text, model(text)[:, -1].argmax(-1, keepdim=True)], 1)
    return text


@pytest.mark.parametrize("name", names())
def test_greedy_text_past_the_training_length_needs_no_recomputing(name: str) -> None:
    model, new = shared(name), 10
    room = model.max_positions or TRAIN_LENGTH + 6
    prompt = tokens(2, min(room, TRAIN_LENGTH + 6) - new + 1)
    expected = greedy(model, prompt, new)
    assert expected.shape[1] - 1 == room or model.max_positions != TRAIN_LENGTH
    assert torch.equal(generate(model, prompt, new, temperature=0), expected)


@pytest.mark.parametrize("name", names())
def test_where_positions_end_the_length_is_refused_at_once(name: str) -> None:
    model = shared(name)
    if model.max_positions is None:
        assert generate(model, tokens(1, 4 * TRAIN_LENGTH), 2, temperature=0).shape == (1, 4 * TRAIN_LENGTH + 2)
        return
    rows = model.max_positions
    with pytest.raises(ModelError, match=f"length={rows + 1}: .* {rows} tokens only"):
        generate(model, tokens(1, 5), rows - 5 + 2)
    if rows < 1000:
        assert generate(model, tokens(1, rows - 2), 3).shape == (1, rows + 1)  # the last token is never fed


def test_a_length_dependent_encoding_is_asked_not_named() -> None:
    """Generation with a cache that a declaration forbids would go wrong: the declaration alone decides."""
    model, prompt = tiny("normalised"), tokens(16, 20)
    with torch.no_grad():
        model.embedding.weight.mul_(50)  # as large as the code, so that the text is not one token again and again
    assert model.length_dependent
    expected = greedy(model, prompt, 16)
    assert torch.equal(generate(model, prompt, 16, temperature=0), expected)
    model.encodings[0].length_dependent = False
    assert not torch.equal(generate(model, prompt, 16, temperature=0), expected)


@pytest.mark.parametrize("plan", ["randomised", "random_float", "randomised_even", "pose", "cape"])
def test_a_random_plan_draws_once_and_generates_what_it_would_score(plan: str) -> None:
    model = build(VOCABULARY, TRAIN_LENGTH, {"layers": 4, "width": 32, "heads": 4, "tie": False}, "rope", plan).eval()
    prompt, new = tokens(2, 30), 10
    text = generate(model, prompt, new, temperature=0, generator=seeded(3))
    logits = model(text[:, :-1], generator=seeded(3))
    assert torch.equal(logits[:, 29:].argmax(-1), text[:, 30:])


@pytest.mark.parametrize("name", ["rope", "fope", "rope_window", "rope_alibi"])
def test_a_key_that_stays_is_turned_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, turned = shared(name), []
    for component in (
        component for encoding in model.encodings for component in encoding.components() if component.overrides("map_k")
    ):

        def spy(k: Tensor, *args, really=component.map_k) -> Tensor:
            turned.append(k.shape[2])
            return really(k, *args)

        monkeypatch.setattr(component, "map_k", spy)
    generate(model, tokens(1, 20), 4, temperature=0)
    layers = turned.count(20)
    assert layers > 0
    assert turned == [20] * layers + [1] * 3 * layers


def test_sampling_is_repeated_from_its_generator_and_leaves_the_model_as_it_was() -> None:
    model = tiny("rope", dropout=0.5).train()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    first, again, other = (generate(model, tokens(3, 8), 12, generator=seeded(s)) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(first[:, :8], tokens(3, 8))
    assert model.training
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    assert not first.requires_grad


def test_a_stream_is_what_generate_collects() -> None:
    model = shared("alibi")
    columns = stream(model, tokens(2, 5), 7, top_k=5, generator=seeded(2))
    collected = torch.stack(list(columns), 1)
    assert torch.equal(collected, generate(model, tokens(2, 5), 7, top_k=5, generator=seeded(2))[:, 5:])


def test_rows_of_a_batch_do_not_meet() -> None:
    for name in ("sinusoidal", "rope", "t5", "fox"):
        model, prompts = shared(name), tokens(4, 9)
        together = generate(model, prompts, 8, temperature=0)
        assert torch.equal(together, torch.cat([generate(model, row[None], 8, temperature=0) for row in prompts]))


def test_frequencies_are_the_models_probabilities() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0, 1.0, 0.5, -8.0]])
    many = logits.expand(40_000, -1)
    for temperature in (0.7, 1.0, 2.0):
        counts = sample(many, temperature, None, None, seeded(0)).bincount(minlength=6) / 40_000
        assert torch.allclose(counts, torch.softmax(logits[0] / temperature, 0), atol=0.012)
    kept = sample(many, 1.0, 3, None, seeded(0)).unique().tolist()
    assert kept == [0, 3, 4]
    assert sample(many, 1.0, None, 0.6, seeded(0)).unique().tolist() == [0, 3]  # 0.56 + 0.21
    assert sample(many, 0, None, None, None).unique().tolist() == [0]


laws = st.lists(st.floats(0.0, 1.0, width=32), min_size=1, max_size=30).filter(lambda law: sum(law) > 1e-3)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(law=laws, k=st.integers(1, 40), p=st.floats(0.01, 1.0))
def test_what_is_left_is_the_fewest_and_likeliest(law: list[float], k: int, p: float) -> None:
    whole = torch.tensor([law], dtype=torch.float64)
    whole = whole / whole.sum()
    for top_k, top_p in ((k, None), (None, p), (k, p)):
        left = truncate(whole, top_k, top_p)[0]
        kept = left > 0
        assert torch.equal(left[kept], whole[0][kept])
        assert kept.any()
        if (~kept).any() and kept.any():
            assert left[kept].min() >= whole[0][~kept].max()
        if top_k is not None:
            assert kept.sum() <= top_k
        if top_p is not None:
            pool = whole[0].sort(descending=True).values[: top_k or len(law)]
            assert left.sum() >= p * pool.sum() - 1e-9
            assert left.sum() - left[kept].min() < p * pool.sum() + 1e-9  # one fewer would not do
        elif top_k is not None:
            assert kept.sum() == min(top_k, int((whole > 0).sum()))


@pytest.mark.parametrize(
    ("prompt", "options", "said"),
    [
        ([[1, 2], [3]], {}, "prompts of 1 and 2 tokens"),
        ([[]], {}, "separator"),
        (torch.zeros(3, dtype=torch.int64), {}, r"shape \(3,\)"),
        (torch.zeros(1, 3), {}, "whole numbers"),
        ([[VOCABULARY]], {}, f"token {VOCABULARY} .* 0 to {VOCABULARY - 1}"),
        ([[-1, 3]], {}, "token -1"),
        ([[1]], {"temperature": -0.1}, "temperature=-0.1"),
        ([[1]], {"top_k": 0}, "top_k=0"),
        ([[1]], {"top_p": 0.0}, "top_p=0.0"),
        ([[1]], {"top_p": 1.5}, "top_p=1.5"),
        ([[1]], {"new_tokens": 0}, "new_tokens=0"),
    ],
)
def test_bad_input_is_answered(prompt, options: dict, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        generate(shared("rope"), prompt, **({"new_tokens": 3} | options))


def test_prompts_of_equal_length_may_be_lists() -> None:
    model = shared("rope")
    assert torch.equal(
        generate(model, [[1, 2, 3], [4, 5, 6]], 4, temperature=0),
        generate(model, torch.tensor([[1, 2, 3], [4, 5, 6]]), 4, temperature=0),
    )


# ---- the command


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a model that has learned nothing, over bytes."""
    folder = tmp_path_factory.mktemp("runs") / "rope-tiny"
    folder.mkdir()
    ByteTokenizer().save(folder)
    model = build(257, 16, {"layers": 2, "width": 32, "heads": 4, "tie": False}, "rope", seed=1)
    optimizer = torch.optim.AdamW(model.parameters())
    checkpoint.save(folder / "checkpoints", 1, model, optimizer, {"model": model.config})
    return folder


def test_the_command_writes_what_the_model_generates(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"run={run_folder}", "prompt=Añ =", "length=60", "seed=3", "temperature=0.5", "top_p=null"]
    assert script.main(words) == 0
    first = capsys.readouterr().out
    assert script.main(words) == 0
    assert capsys.readouterr().out == first
    assert script.main([*words, "seed=4"]) == 0
    assert capsys.readouterr().out != first
    assert first.startswith("Añ =")
    assert first.endswith("\n")
    greedy_words = [f"run={run_folder}", "prompt=abc", "length=40", "temperature=0"]
    assert script.main(greedy_words) == 0
    tokenizer = ByteTokenizer()
    model = build(257, 16, {"layers": 2, "width": 32, "heads": 4, "tie": False}, "rope", seed=1).eval()
    expected = greedy(model, torch.tensor([[256, *b"abc"]]), 40)[0, 1:].tolist()
    end = expected.index(256) if 256 in expected else len(expected)
    assert capsys.readouterr().out == tokenizer.decode(expected[:end]) + "\n"


def test_several_samples_differ(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main([f"run={run_folder}", "prompt=a", "samples=2", "length=20"]) == 0
    out = capsys.readouterr().out
    first, second = out.split("--- 2 of 2\n")
    assert first.removeprefix("--- 1 of 2\n") != second


def test_an_extension_is_put_on_for_the_whole_length(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"run={run_folder}", "prompt=abc", "length=40", "temperature=0"]
    assert script.main(words) == 0
    plain = capsys.readouterr().out
    assert script.main([*words, "extension=pi"]) == 0
    assert capsys.readouterr().out != plain
    with pytest.raises(ModelError, match="t5_rescale"):
        script.main([*words, "extension=t5_rescale"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["prompt=a"], "run"),
        (["run=nowhere", "prompt=a"], "run=nowhere"),
        (["run=.", "temprature=1"], "Did you mean temperature"),
        (["run=.", "temperature=hot"], "temperature=hot"),
        (["run=.", "length=0"], "length=0"),
        (["run=.", "top_p=2"], "top_p=2"),
        (["run=.", "prompt"], "key=value"),
    ],
)
def test_bad_words_are_answered(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refusal:
        script.main(words)
    assert len(str(refusal.value).splitlines()) <= 3
