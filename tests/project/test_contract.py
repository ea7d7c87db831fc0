"""The commands, files and Python names that others build on: each is imported or run, at a tiny size."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pandas
import pytest
import torch
import yaml
from training_runs import ROOT, command, only_run, rows, run, torchrun, write_corpus

from longrun.config import compose, cross_checks, schema
from model import build, load
from model.hf import load_hf, save_hf
from model.pe.registry import names

PROTOCOLS = {
    "fixed_targets": ["targets=8"],
    "nonoverlap": [],
    "sliding": ["stride=8"],
    "last_k": ["k=4"],
    "per_position": [],
}
SCRIPTS = ("schemes", "report", "gallery", "generate", "export", "bench", "claims", "runs", "doctor", "dashboard")


def python(*words: str, expect: int = 0) -> str:
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout if expect == 0 else done.stderr


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, text: list[str]) -> Path:
    """A root with one finished run of `python train.py pe=... train.length=... train.steps=... seed=... root=...`."""
    folder = tmp_path_factory.mktemp("runs")
    run(command(*text, "pe=rope", "optim.lr=0.003", "train.steps=4", "checkpoint.every=2", "seed=1", f"root={folder}"))
    return folder


def test_a_run_folder_is_an_interface(root: Path) -> None:
    folder = only_run(root)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (config["pe"]["name"], config["train"]["length"], config["train"]["batch"]) == ("rope", 16, 8)
    assert {"step", "tokens", "loss", "lr", "grad_norm"} <= rows(folder)[0].keys()
    assert "tokens_per_s" in json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
    assert (folder / "checkpoints" / "4" / "model.safetensors").is_file()
    assert {"environment.json", "done"} <= {path.name for path in folder.iterdir()}


def test_a_record_has_its_fields(root: Path) -> None:
    record = json.loads((only_run(root) / "eval" / "fixed_targets.json").read_text())
    assert record["protocol"] == "fixed_targets"
    assert (record["scheme"], record["extension"], record["train_length"]) == ("rope", "none", 16)
    assert len(record["targets_hash"]) >= 16
    assert {"length", "tokens", "nll", "ppl", "bits_per_byte"} <= record["rows"][0].keys()
    tokens = pandas.read_parquet(only_run(root) / "eval" / "fixed_targets.parquet")
    assert len(tokens) == sum(row["tokens"] for row in record["rows"])


def test_eval_measures_with_an_extension(root: Path, tmp_path: Path) -> None:
    words = ["protocol=sliding", "stride=8", "lengths=[16,32]", "documents=2", "extension=pi", "control=false"]
    python("eval.py", f"run={only_run(root)}", *words, f"out={tmp_path}")
    assert [path.name for path in tmp_path.glob("*.json")] == ["sliding-pi.json"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_eval_has_the_protocols(root: Path, protocol: str) -> None:
    """Composed and checked as by the command; tests/evaluation measures with each."""
    arguments = compose.parse([f"run={only_run(root)}", f"protocol={protocol}", *PROTOCOLS[protocol]])
    values = compose.compose("eval", schema.EvalRunConfig, arguments, lambda values: None)
    assert cross_checks.eval_config(values).protocol == protocol


def test_a_sweep_skips_what_is_done(root: Path, text: list[str]) -> None:
    words = [*text, "optim.lr=0.003", "train.steps=4", "checkpoint.every=2", f"root={root}"]
    out, _ = run(command("-m", "pe=rope", "seed=1", *words))
    assert re.search(r"1 of 1 already finished|already finished", out)


def test_torchrun_makes_one_folder(text: list[str], tmp_path: Path) -> None:
    run(torchrun(*text, "pe=rope", "train.steps=2", "eval_at_end=false", f"root={tmp_path}"))
    assert len(rows(only_run(tmp_path))) == 3  # two steps and a validation


def test_scripts_exist_and_explain_themselves() -> None:
    for name in SCRIPTS:
        assert (ROOT / "scripts" / f"{name}.py").is_file(), name
    assert set(names()) <= set(python("-m", "scripts.schemes", "--names").split())


def test_report_and_generate_and_export(root: Path, tmp_path: Path) -> None:
    python("-m", "scripts.report", str(root), "--out", str(tmp_path))
    assert {"report.html", "report.md", "figures"} <= {path.name for path in tmp_path.iterdir()}
    assert python("-m", "scripts.generate", f"run={only_run(root)}", "prompt=one", "length=3")
    python("-m", "scripts.export", f"run={only_run(root)}", f"to={tmp_path / 'hf'}")
    assert load_hf(tmp_path / "hf").train_length == 16


def test_make_can_be_pointed_elsewhere() -> None:
    for target in ("demo", "test", "quick"):
        words = ["make", "-C", str(ROOT), "-n", target, "PYTHON=python3.11", "VENV=/nowhere/venv"]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        assert "python3.11 -m venv /nowhere/venv" in done.stdout, target


def test_bad_input_is_2_and_short(root: Path) -> None:
    message = python("train.py", "pe=rpoe", expect=2)
    assert "Did you mean pe=rope" in message
    assert len(message.splitlines()) <= 4


def test_python_names(root: Path, tmp_path: Path) -> None:
    model = build(vocab_size=512, train_length=128, model={"layers": 2, "width": 64, "heads": 4}, pe={"name": "rope"})
    tokens = torch.arange(24).reshape(2, 12)
    logits = model(tokens)
    assert logits.shape == (2, 12, 512)
    assert logits.dtype == torch.float32
    assert model.loss(tokens, tokens.roll(-1, 1)).shape == ()
    loaded = load(only_run(root))
    assert not loaded.training
    save_hf(loaded, tmp_path / "saved")
    again = load_hf(tmp_path / "saved")
    torch.testing.assert_close(again(tokens % 64), loaded(tokens % 64))
    alibi = build(vocab_size=64, train_length=16, model={"layers": 1, "width": 32, "heads": 4}, pe={"name": "alibi"})
    table = next(module for module in alibi.modules() if hasattr(module, "table")).table(10)
    assert table.shape == (4, 10)
    assert table.dtype == torch.float32
