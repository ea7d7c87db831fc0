"""When a run reached a loss, from its metrics."""

import json
from pathlib import Path

import pytest
from report_runs import write_run

from longrun.base.errors import ConfigError
from scripts.dev import speedrun


def written(root: Path, scheme: str, seed: int, curve: list[float], rate: float, **config) -> None:
    """A finished run of 100 tokens a step with a validation every 10 steps."""
    folder = write_run(root, scheme, seed, evaluate=False, config=config)
    rows = [{"step": 10, "tokens": 1000, "loss": 3.0, "tokens_per_s": rate}]
    for n, bits in enumerate(curve, start=1):
        rows.append({"step": 10 * n, "tokens": 1000 * n, "valid_loss": 2.0, "valid_bits_per_byte": bits})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_first_validation_at_or_below_the_target_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, "rope", 0, [2.0, 1.6, 1.7, 1.5], rate=500, optim={"lr": 0.01})
    written(tmp_path, "rope", 1, [2.0, 1.7, 1.6, 1.5], rate=500, optim={"lr": 0.01})
    written(tmp_path, "alibi", 0, [2.0, 1.9, 1.8, 1.7], rate=500, optim={"lr": 0.01})
    assert speedrun.main([str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells[0].startswith("`rope`")
    assert cells[1:] == ["2", "25 [20, 30]", "2,500 [2,000, 3,000]", "5.0 [4.0, 6.0]", "1.500 [1.500, 1.500]"]
    assert "| – | – | – | 1.700 |" in lines[3]


def test_the_page_is_renewed(tmp_path: Path) -> None:
    written(tmp_path / "runs", "rope", 0, [1.0], rate=100)
    page = tmp_path / "page.md"
    page.write_text("by hand\n<!-- speedrun: start (made) -->\nold\n<!-- speedrun: end -->\n")
    speedrun.main([str(tmp_path / "runs"), "--write", str(page)])
    assert "old" not in page.read_text()
    assert page.read_text().startswith("by hand\n")


def test_nothing_finished_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run"):
        speedrun.main([str(tmp_path)])
