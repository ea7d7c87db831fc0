"""Fine-tuning with the real trainer, in this process: what a run that begins with other weights keeps, and how it ends.

`test_init_from.py` has the commands; here are resume, dropped encodings, foreign tokenizers and refusals.
"""

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from hf_tokenizers import byte_level, folder
from origins import SIZES, SMALL, only, run_folder
from safetensors.torch import load_file, save_file
from training_runs import assert_same, write_corpus

import train
from data.corpus import Corpus
from data.tokenizers.bpe import train_bpe
from data.tokenizers.byte import ByteTokenizer
from data.tokenizers.load import load_tokenizer
from longrun.base.errors import ConfigError, DataError
from longrun.config.cli import dispatch
from model import build, init_from, load
from model.errors import ModelError
from model.hf import save_hf


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return [*SMALL, *write_corpus(tmp_path_factory.mktemp("corpus"), files=20, words=1500)]


def hf_folder(place: Path, vocabulary: int = 300, pe: str = "rope", **options) -> Path:
    """A Llama of ours in transformers' layout, with our tokenizer of 300 tokens."""
    save_hf(build(vocabulary, 16, SIZES, pe, seed=5, **options), place, separator=0)
    train_bpe(["one two three four " * 30, "".join(map(chr, range(32, 300)))], 300).export(place)
    return place


ORIGINS = {"run": run_folder, "hf": hf_folder}


def fine_tune(source: Path, root: Path, *more: str) -> int:
    return dispatch("train", "train:main", [*more, f"init_from={source}", f"root={root}"]) or 0


def state(place: Path) -> dict[str, torch.Tensor]:
    return init_from.load(place).state_dict()


# ---- it continues to the same bits


@pytest.mark.parametrize("kind", ORIGINS)
@pytest.mark.parametrize("change", ["extension=yarn", "pe=t5"])
def test_an_interrupted_fine_tuning_ends_with_the_same_bits(
    kind: str, change: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ORIGINS[kind](tmp_path / "source")
    more = [*words, change, "train.length=24", "train.steps=5", "eval_at_end=false", "optim.lr=0.01"]
    assert fine_tune(source, tmp_path / "whole", *more) == 0
    step = train.train_step

    def interrupted(trainer):
        if trainer.progress.step == 2:
            signal.raise_signal(signal.SIGTERM)
        return step(trainer)

    monkeypatch.setattr(train, "train_step", interrupted)
    assert fine_tune(source, tmp_path / "parts", *more) == 128 + signal.SIGTERM
    monkeypatch.setattr(train, "train_step", step)
    assert len((only(tmp_path / "parts") / "metrics.jsonl").read_text().splitlines()) == 4  # with a validation
    assert fine_tune(source, tmp_path / "parts", *more) == 0
    whole, parts = only(tmp_path / "whole"), only(tmp_path / "parts")
    assert whole.name == parts.name
    assert_same(whole, parts)
    assert load(parts).train_length == 24


def test_it_begins_with_the_weights_and_a_resumed_one_does_not(words: list[str], tmp_path: Path) -> None:
    """A learning rate of almost nothing leaves the origin's weights; a finished run is not begun again."""
    source = run_folder(tmp_path / "source")
    more = [*words, "optim.lr=1e-12", "eval_at_end=false"]
    fine_tune(source, tmp_path / "runs", *more)
    made, old = state(only(tmp_path / "runs")), state(source)
    assert made.keys() == old.keys()
    for name, tensor in old.items():
        torch.testing.assert_close(made[name], tensor, rtol=0, atol=1e-9)
    shutil.rmtree(source / "checkpoints")  # no longer needed: the run is finished, and has its own
    assert state(only(tmp_path / "runs")).keys() == old.keys()


# ---- another encoding


@pytest.mark.parametrize("pe", ["kerple_log", "learned", "t5", "rope"])
def test_dropping_positions_drops_their_parameters(pe: str, words: list[str], tmp_path: Path) -> None:
    """DroPE (2512.12167): train on without positions. Nothing of the old encoding is left; all else comes along."""
    source = run_folder(tmp_path / "source", pe)
    fine_tune(source, tmp_path / "runs", *words, "pe=nope", "optim.lr=1e-12", "eval_at_end=false")
    run = only(tmp_path / "runs")
    assert run.name.startswith("nope-mine-text-L16-")
    made, old = state(run), state(source)
    assert not [name for name in made if name.startswith("encodings.")]
    assert made.keys() == {name for name in old if not name.startswith("encodings.")}
    assert all(torch.allclose(made[name], old[name], rtol=0, atol=1e-9) for name in made)
    assert load(run).config["pe"]["name"] == "nope"


def test_a_llama_without_its_positions(words: list[str], tmp_path: Path) -> None:
    source = hf_folder(tmp_path / "hf")
    fine_tune(source, tmp_path / "runs", *words, "pe=nope", "train.length=32")
    run = only(tmp_path / "runs")
    record = json.loads((run / "eval" / "fixed_targets.json").read_text())
    assert (record["scheme"], record["train_length"]) == ("nope", 32)
    made, old = state(run), state(source)
    assert made.keys() == old.keys()  # rotary positions have no parameters; their rotation is gone
    one, two = load(run), build(**{**load(run).config, "pe": init_from.describe(source)["pe"]}).eval()
    two.load_state_dict(one.state_dict())
    tokens = torch.arange(24)[None]
    with torch.no_grad():
        assert (one(tokens) - two(tokens)).abs().max() > 1e-3


def test_an_encoding_of_the_same_scheme_keeps_its_parameters_with_other_options(tmp_path: Path) -> None:
    source = run_folder(tmp_path / "source", "fire")
    options = init_from.describe(source)
    other = {**options["pe"], "name": "fire"}
    begun = init_from.init_from_checkpoint(
        source, 64, options["model"], other, options.get("positions", "contiguous"), 0, None
    )
    for name, tensor in state(source).items():
        assert torch.equal(begun.state_dict()[name], tensor), name
    assert begun.train_length == 64


# ---- tokenizers


def test_a_foreign_tokenizer_comes_along(words: list[str], tmp_path: Path) -> None:
    source = tmp_path / "hf"
    save_hf(build(400, 16, SIZES, "rope"), source, separator=0)
    folder(source, byte_level())
    fine_tune(source, tmp_path / "runs", *words)
    run = only(tmp_path / "runs")
    own = load_tokenizer(run)
    assert own.digest == load_tokenizer(source).digest
    assert (run / "tokenizer.json").read_text() == (source / "tokenizer.json").read_text()
    assert own.decode([own.separator]) == "<|endoftext|>"
    cache = next(word for word in words if word.startswith("data.cache=")).removeprefix("data.cache=")
    written = [Corpus(path) for path in Path(cache).glob("text-*") if path.is_dir()]
    assert own.digest in {corpus.tokenizer.digest for corpus in written}


def test_a_tokenizer_with_more_ids_than_the_model_is_refused(words: list[str], tmp_path: Path) -> None:
    source = hf_folder(tmp_path / "hf", vocabulary=260)
    with pytest.raises(ModelError, match=r"hf: its tokenizer has \d+ ids, and its model has 260 embeddings"):
        fine_tune(source, tmp_path / "runs", *words)
    assert not list((tmp_path / "runs").iterdir())


@pytest.mark.parametrize("word", ["data.tokenizer=byte", "data.tokenizer=bpe", "data.vocab_size=512"])
def test_another_tokenizer_than_the_models_cannot_be_asked_for(word: str, words: list[str], tmp_path: Path) -> None:
    source = run_folder(tmp_path / "source")
    with pytest.raises(ConfigError, match=rf"(?s){word.split('=')[0]}: the tokenizer is the one of init_from=.*Leave"):
        fine_tune(source, tmp_path / "runs", *words, word)


def test_the_data_of_a_task_do_not_fit_a_model_of_text(words: list[str], tmp_path: Path) -> None:
    source = run_folder(tmp_path / "source")
    text = [word for word in words if not word.startswith("data")]
    with pytest.raises(DataError, match=r"data=copy is a task with a vocabulary of its own"):
        fine_tune(source, tmp_path / "runs", *text, "data=copy", "eval.targets=null")


def test_without_a_tokenizer_it_is_refused(words: list[str], tmp_path: Path) -> None:
    source = hf_folder(tmp_path / "hf")
    (source / "tokenizer.json").unlink()
    with pytest.raises(DataError, match=r"(?s)tokenizer.json does not exist.*Name a folder"):
        fine_tune(source, tmp_path / "runs", *words)
    (source / "tokenizer.model").write_bytes(b"sentencepiece")
    with pytest.raises(DataError, match=r"(?s)Convert its tokenizer.model"):
        fine_tune(source, tmp_path / "runs", *words)


# ---- weights that do not fit


def damaged(kind: str, source: Path) -> None:
    weights = source / "model.safetensors"
    tensors, config = load_file(weights), json.loads((source / "config.json").read_text())
    name = "model.layers.1.self_attn.k_proj.weight"
    if kind == "shape":
        tensors[name] = torch.zeros(32, 16)
    if kind == "missing":
        del tensors[name]
    if kind == "left over":
        tensors["model.layers.7.extra"] = torch.zeros(3)
    if kind == "config":
        (source / "config.json").write_text(json.dumps(config | {"hidden_act": "tanh"}))
    save_file(tensors, weights)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("shape", r"sizes(?s:.*)model.layers.1.self_attn.k_proj.weight.*of other sizes"),
        ("missing", r"model.layers.1.self_attn.k_proj.weight"),
        ("left over", r"model.layers.7.extra"),
        ("config", r"tanh"),
    ],
)
def test_a_folder_whose_weights_do_not_fit_is_refused(
    kind: str, message: str, words: list[str], tmp_path: Path
) -> None:
    source = hf_folder(tmp_path / "hf")
    damaged(kind, source)
    with pytest.raises(ModelError, match=message):
        fine_tune(source, tmp_path / "runs", *words)
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


def test_a_run_without_a_checkpoint_is_refused(words: list[str], tmp_path: Path) -> None:
    source = run_folder(tmp_path / "source")
    shutil.rmtree(source / "checkpoints" / "1")
    with pytest.raises(ModelError, match="has no checkpoint yet"):
        fine_tune(source, tmp_path / "runs", *words)


def test_a_pattern_names_the_one_run_that_it_matches(words: list[str], tmp_path: Path) -> None:
    run_folder(tmp_path / "rope-a")
    fine_tune(tmp_path / "rope-*", tmp_path / "runs", *words, "eval_at_end=false")
    assert (only(tmp_path / "runs") / "done").is_file()
    run_folder(tmp_path / "rope-b")
    with pytest.raises(ConfigError, match=r"matches 2 runs.\nName one"):
        fine_tune(tmp_path / "rope-*", tmp_path / "runs", *words)


def test_files_of_tokens_are_those_of_the_models_tokenizer(words: list[str], tmp_path: Path) -> None:
    """A .bin that the model's own tokenizer wrote is trained on; one of another tokenizer is refused."""
    source = run_folder(tmp_path / "source")
    own = load_tokenizer(source)
    ids = [i for _ in range(400) for i in [own.separator, *own.encode("one two three four " * 4).tolist()]]
    (tmp_path / "x.bin").write_bytes(np.array(ids, "<u2").tobytes())
    text = [word for word in words if not word.startswith(("data=", "data.path"))]
    tokens = [*text, "data=tokens", f"data.path={tmp_path / 'x.bin'}", "eval_at_end=false"]
    fine_tune(source, tmp_path / "runs", *tokens, f"data.tokenizer={source}")
    assert only(tmp_path / "runs").name.startswith("rope-mine-tokens-L16")
    (tmp_path / "other").mkdir()
    ByteTokenizer().save(tmp_path / "other")
    with pytest.raises(DataError, match="the model has another tokenizer"):
        fine_tune(source, tmp_path / "more", *tokens, f"data.tokenizer={tmp_path / 'other'}")
