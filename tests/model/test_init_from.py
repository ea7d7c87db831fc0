"""Beginning with the weights of another model: what comes along, what may change, what is refused. Real commands."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from origins import SIZES, SMALL, only, run_folder
from training_runs import write_corpus

from data.tokenizers.bpe import train_bpe
from data.tokenizers.byte import ByteTokenizer
from longrun.evaluation.load import require_embeddings
from model import build, init_from, load
from model.checkpoint import files as checkpoint
from model.errors import ModelError
from model.hf import save_hf

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_corpus(tmp_path_factory.mktemp("corpus"), files=20, words=1500)


def command(script: str, *arguments: str, expect: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, script, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def difference(one: Path, other: Path) -> float:
    a, b = (init_from.load(folder).state_dict() for folder in (one, other))
    return max((a[name] - b[name]).abs().max().item() for name in a.keys() & b.keys())


def test_context_extension_of_a_run(words: list[str], tmp_path: Path) -> None:
    """It begins with its weights and tokenizer, trains at the longer length, and is measured relative to that."""
    source = run_folder(tmp_path / "source")
    extended = [f"init_from={source}", "extension=yarn", "train.length=48"]
    said = command("train.py", *SMALL, *words, *extended, f"root={tmp_path / 'runs'}")
    assert "validation loss" in said
    run = only(tmp_path / "runs")
    assert run.name.startswith("rope.yarn-mine-text-L48-s0-")
    assert 0 < difference(source, run) < 0.01
    model = load(run)
    assert model.config["extension"]["name"] == "yarn"
    assert (model.train_length, model.vocab_size) == (48, 300)
    assert (run / "tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()
    record = json.loads((run / "eval" / "fixed_targets.json").read_text())
    assert record["train_length"] == 48
    assert [row["length"] for row in record["rows"]] == [48, 96]
    assert "nothing to do" in command("train.py", *SMALL, *words, *extended, f"root={tmp_path / 'runs'}")

    command("eval.py", f"run={run}", "control=true", "threads=1", "precision=fp32")
    again = json.loads((run / "eval" / "fixed_targets.json").read_text())
    assert [row["nll"] for row in again["rows"]] == pytest.approx([row["nll"] for row in record["rows"]], abs=1e-5)
    control = json.loads((run / "eval" / "fixed_targets-window.json").read_text())
    assert control["rows"][0]["nll"] == pytest.approx(again["rows"][0]["nll"], abs=1e-6)  # a window of 48, not of 16


def test_a_checkpoint_of_hugging_face(words: list[str], tmp_path: Path) -> None:
    """eval.py hf= measures it on all of a text; train.py init_from= goes on with it. A Llama with llama3 scaling."""
    model = build(300, 16, SIZES, "rope", extension="llama3", extension_length=64)
    assert save_hf(model, tmp_path / "hf", separator=0) == "llama"
    train_bpe(["one two three four " * 30, "".join(map(chr, range(32, 300)))], 300).export(tmp_path / "hf")
    said = command(
        "eval.py", f"hf={tmp_path / 'hf'}", "data=text", *words, "documents=null", "lengths=[8,32]", "threads=1",
        "extension=none,ntk", "precision=fp32",
    )  # fmt: skip
    assert f"written to {tmp_path / 'hf' / 'eval'}" in said
    record = json.loads((tmp_path / "hf" / "eval" / "fixed_targets.json").read_text())
    assert (record["train_length"], record["scheme"], record["data"]) == (16, "rope", "text")
    assert record["rows"][0]["documents"] == 20  # nothing of the text was trained on
    assert record["rows"][1]["bits_per_byte"] > 0
    assert (tmp_path / "hf" / "eval" / "fixed_targets-ntk.json").is_file()

    command("train.py", *SMALL, *words, f"init_from={tmp_path / 'hf'}", f"root={tmp_path / 'runs'}")
    run = only(tmp_path / "runs")
    assert run.name.startswith("rope-hf-text-L16-s0-")
    assert 0 < difference(tmp_path / "hf", run) < 0.01
    assert load(run).config["extension"]["name"] == "llama3"  # its own scaling stays


# ---- in one process: what `begin` does


def begun(source: Path, length: int = 16, extension: dict | None = None, **changes) -> torch.nn.Module:
    options = init_from.describe(source)
    model, pe, positions = (changes.get(key, options[key]) for key in ("model", "pe", "positions"))
    return init_from.init_from_checkpoint(source, length, model, pe, positions, 0, extension)


def test_with_another_scheme_the_rest_comes_along(tmp_path: Path) -> None:
    source = run_folder(tmp_path / "source", "kerple_log")
    old = load(source)
    for pe in ("nope", "t5", {"name": "rope", "base": 500.0}):
        new = begun(source, pe=pe)
        assert new.config["pe"]["name"] == (pe if isinstance(pe, str) else "rope")
        for name, tensor in old.state_dict().items():
            if not name.startswith("encodings."):
                assert torch.equal(new.state_dict()[name], tensor), name
    assert torch.equal(begun(source).state_dict()["encodings.0.a"], old.state_dict()["encodings.0.a"])


def test_the_training_length_follows(tmp_path: Path) -> None:
    source = run_folder(tmp_path / "source")
    assert begun(source, 64).train_length == 64
    assert "extension" not in begun(source, 64).config
    assert begun(source, 8).train_length == 8
    extended = begun(source, 64, {"name": "pi"})
    assert (extended.train_length, extended.config["train_length"], extended.config["extension_length"]) == (64, 16, 64)
    assert build(**extended.config).train_length == 64


def test_a_model_that_is_extended_twice_is_built_again_the_same(tmp_path: Path) -> None:
    source = tmp_path / "source"
    first = begun(run_folder(tmp_path / "first"), 32, {"name": "yarn"})
    checkpoint.save(source / "checkpoints", 1, first, torch.optim.SGD(first.parameters()), {"model": first.config})
    second = begun(source, 128, {"name": "ntk"}).eval()
    again = build(**second.config).eval()
    again.load_state_dict(second.state_dict())
    x = torch.randint(300, (1, 100))
    with torch.no_grad():
        assert torch.equal(again(x), second(x))
    assert second.config["extension"]["trained"] == [16, 32]
    assert again.train_length == 128


def test_a_learned_table_does_not_grow_by_itself(tmp_path: Path) -> None:
    source = run_folder(tmp_path / "source", "learned")
    assert begun(source, 8).max_positions == 16
    with pytest.raises(
        ModelError, match=r"encodings.0.rows: the checkpoint has shape \(16, 32\), the model \(32, 32\)"
    ):
        begun(source, 32)
    assert begun(source, 32, {"name": "table_interpolation"}).max_positions == 32


def test_dropout_is_the_only_thing_of_the_model_that_may_change(tmp_path: Path) -> None:
    source = run_folder(tmp_path / "source")
    assert begun(source, model=init_from.describe(source)["model"] | {"dropout": 0.2}).dropout == 0.2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model=small"], "model: the sizes of the model are those of init_from="),
        (["model.layers=3"], "model.layers: the sizes of the model are those of init_from="),
        (["pe=rpoe"], "Did you mean pe=rope?"),
    ],
    ids=str,
)
def test_sizes_are_those_of_the_weights(arguments: list[str], message: str, tmp_path: Path) -> None:
    source = run_folder(tmp_path / "source")
    said = command("train.py", *SMALL, f"init_from={source}", *arguments, f"root={tmp_path}", expect=2)
    assert message in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("train.py", ["init_from=nowhere"], "init_from=nowhere: there is no such folder"),
        ("train.py", ["init_from=docs"], "config.json does not exist"),
        ("eval.py", ["hf=docs", "data=text"], "this folder has no config.json"),
    ],
    ids=str,
)
def test_folders_without_a_model(script: str, arguments: list[str], message: str) -> None:
    assert message in command(script, *arguments, expect=2)


def test_a_tokenizer_that_is_not_the_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="here: its tokenizer has 257 ids, and its model has 200"):
        require_embeddings(build(200, 16, SIZES, "rope"), ByteTokenizer(), "here")
    require_embeddings(build(300, 16, SIZES, "rope"), ByteTokenizer(), "here")  # padded, as many are
