"""`python -m scripts.doctor` finds what is broken, and calls nothing broken that is merely absent."""

from pathlib import Path

import pytest
import torch
from tiny_training import Net

from longrun.doctor import NOTE, server
from longrun.training.optimizers import build_optimizer
from model.checkpoint import files as checkpoint
from scripts import doctor


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with two checkpoints."""
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n')
    net = Net()
    for step in (1, 2):
        checkpoint.save(tmp_path / "checkpoints", step, net, build_optimizer(net), {})
    return tmp_path


def test_a_whole_run_is_healthy_without_a_network(run: Path, capsys: pytest.CaptureFixture[str]):
    assert doctor.main([str(run), "--offline"]) == 0
    out = capsys.readouterr().out
    assert out.count("every byte as written") == 2
    assert f"torch {torch.__version__}" in out
    assert "BROKEN" not in out


def test_a_flipped_bit_is_found(run: Path, capsys: pytest.CaptureFixture[str]):
    file = run / "checkpoints" / "1" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert doctor.main([str(run), "--offline"]) == 1
    out = capsys.readouterr().out
    assert f"BROKEN  checkpoint   {file}: damaged" in out
    assert out.count("every byte as written") == 1


@pytest.mark.parametrize("text", ['{"step": 1', '{"step": 2, "loss": 1}\n{"step": 1, "loss": 1}'])
def test_metrics_that_are_not_a_record(run: Path, text: str, capsys: pytest.CaptureFixture[str]):
    (run / "metrics.jsonl").write_text(text + "\n")
    assert doctor.main([str(run), "--offline"]) == 1
    assert "BROKEN  metrics" in capsys.readouterr().out


def test_a_folder_that_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert doctor.main([str(tmp_path), "--offline"]) == 1
    assert "no config.yaml" in capsys.readouterr().out


def test_a_server_that_does_not_answer_is_a_note():
    check = server("hub", "http://127.0.0.1:9")
    assert check.state == NOTE
    assert "data sets and models" in check.text
