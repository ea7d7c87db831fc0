"""The list of runs and the difference of two, from folders that the product's own code wrote."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_configs import ROOT, config

from longrun.base.errors import ConfigError
from longrun.config.cross_checks import eval_config
from longrun.evaluation.protocols import registry as protocols
from longrun.runs.listing import config_difference, find_runs
from longrun.runs.run_folder import RunFolder, resolve_run
from scripts import runs


def made(root: Path, words: str, losses: list[float] = (), ppl: dict[int, float] | None = None) -> RunFolder:
    """A run folder with rows, and figures at some lengths; finished if it has figures."""
    chosen = config(f"{words} train.length=32 tracker=off root={root}")
    folder = RunFolder.of(chosen)
    folder.create(chosen)
    rows = [{"step": 10 * (i + 1), "loss": loss} for i, loss in enumerate(losses)]
    (folder.path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if ppl:
        figures = [{"length": n, "ppl": value} for n, value in ppl.items()] + [{"length": 128, "refused": "no"}]
        (folder.path / "eval").mkdir()
        record = {"protocol": "fixed_targets", "extension": "none", "rows": figures}
        (folder.path / "eval" / "fixed_targets.json").write_text(json.dumps(record))
        window = record | {"extension": "window", "rows": [{"length": 32, "ppl": 1.0}]}
        (folder.path / "eval" / "a-window.json").write_text(json.dumps(window))
        folder.finish({})
    return folder


def listed(capsys, *arguments: str) -> dict[str, list[str]]:
    assert runs.main(list(arguments)) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["run", "status", "scheme"]
    return {Path(line.split()[0]).name: line.split()[1:] for line in lines}


def test_every_state_of_a_run(tmp_path, capsys):
    done = made(tmp_path, "pe=learned", [3.5, 2.25], {32: 9.5})
    stopped = made(tmp_path / "below", "pe=rope", [float("nan"), 4.0])
    empty = made(tmp_path, "pe=alibi seed=1")
    with stopped.lock():
        assert listed(capsys, str(tmp_path))[stopped.path.name][0] == "running"
    found = listed(capsys, str(tmp_path))
    assert found == {
        done.path.name: ["done", "learned", "20", "1000", "2.250", "9.50", "n/a"],
        stopped.path.name: ["stopped", "rope", "20", "1000", "4.000", "-", "-"],
        empty.path.name: ["empty", "alibi", "0", "1000", "-", "-", "-"],
    }


def test_runs_further_below_are_listed_and_files_of_wandb_are_not(tmp_path, capsys):
    run = made(tmp_path / "runs" / "claims" / "text", "pe=rope")
    inside = run.path / "wandb" / "files"
    inside.mkdir(parents=True)
    (inside / "config.yaml").write_text("{}")
    assert [path.path for path in find_runs([str(tmp_path / "runs")])] == [run.path]
    with pytest.raises(ConfigError, match="there is no such folder"):
        find_runs([str(tmp_path / "nowhere")])


def test_the_difference_names_what_matters_first(tmp_path):
    first = made(tmp_path, "pe=rope")
    second = made(tmp_path, "pe=alibi seed=1 checkpoint.every=7")
    _, *lines = config_difference(first.path, second.path).splitlines()
    keys = [line.split()[0] for line in lines]
    assert {"seed", "pe.name", "pe.base"} < set(keys)
    assert [line.split()[0] for line in lines if line.endswith(" no")] == ["checkpoint.every"] == keys[-1:]
    assert "data.path" not in keys
    assert config_difference(first.path, first.path) == ""


def test_a_pattern_stands_for_one_run(tmp_path):
    first, second = made(tmp_path, "seed=1"), made(tmp_path, "seed=2")
    assert resolve_run(str(first.path)) == str(first.path)
    assert resolve_run(f"{tmp_path}/*-s2-*") == str(second.path)
    chosen = {"run": f"{tmp_path}/rope-*-s1-*", "hf": None}
    with pytest.raises(ConfigError, match=r"(?s)matches 2 runs.*Name one:.*-s1-.*-s2-"):
        resolve_run(f"{tmp_path}/rope*")
    with pytest.raises(ConfigError, match=r"scripts\.runs"):
        eval_config_run(chosen | {"run": f"{tmp_path}/nope*"})
    assert eval_config_run(chosen) == str(first.path)


def eval_config_run(changes: dict) -> str | None:
    import yaml

    values = yaml.safe_load((ROOT / "configs" / "eval.yaml").read_text())
    values |= yaml.safe_load((ROOT / "configs" / "eval" / "default.yaml").read_text())
    values = protocols.defaults() | {key: value for key, value in values.items() if key not in ("defaults", "hydra")}
    return eval_config(values | {"extension": "none"} | changes).run


def test_a_folder_without_runs_is_answered_without_torch(tmp_path):
    command = [sys.executable, "-X", "importtime", "-m", "scripts.runs", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "no run in it" in done.stderr
    assert "| torch" not in done.stderr
