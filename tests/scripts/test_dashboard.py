"""What wandb is told of evaluations, and the report as a run of wandb: real wandb, offline."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from report_runs import write_evaluation, write_run
from tiny_configs import ROOT

from longrun.base.errors import ConfigError
from longrun.tracking import wandb_metrics
from longrun.tracking.dashboard import workspace
from scripts import dashboard

RECORD = {
    "protocol": "fixed_targets",
    "extension": "none",
    "train_length": 8,
    "rows": [
        {"length": 4, "nll": 1.1, "ppl": math.exp(1.1), "bits_per_byte": 1.2, "tokens": 7},
        {"length": 8, "nll": 1.0, "ppl": math.e, "bits_per_byte": 1.1, "tokens": 7},
        {"length": 16, "nll": 1.05, "ppl": math.exp(1.05), "bits_per_byte": 1.15, "tokens": 7},
        {"length": 32, "nll": 1.5, "ppl": math.exp(1.5), "bits_per_byte": 1.6, "tokens": 7},
        {"length": 64, "refused": "no row"},
    ],
}
WINDOW = RECORD | {"extension": "window"}


def test_columns_of_the_table_of_runs() -> None:
    found = wandb_metrics.summary_columns(RECORD)
    assert found == pytest.approx(
        {"ppl@1x": math.e, "ppl@2x": math.exp(1.05), "ppl@4x": math.exp(1.5), "ppl@4x/ppl@1x": math.exp(0.5),
         "usable_length": 16}
    )  # fmt: skip
    assert set(wandb_metrics.summary_columns(WINDOW)) == {f"window/{key}" for key in found}
    answers = RECORD | {"protocol": "exact_match", "rows": [{"length": 8, "exact": 0.5, "ppl": 2.0, "nll": 0.7}]}
    assert wandb_metrics.summary_columns(answers) == {"exact_match/exact@1x": 0.5}


def test_cells_hold_every_row() -> None:
    table = wandb_metrics.table_rows([RECORD, WINDOW])
    assert len(table) == 10
    assert table[0][:3] == ["fixed_targets", "none", 4]
    assert table[-1] == ["fixed_targets", "window", 64, None, None, None, None, None]


def test_the_report_as_an_offline_run(tmp_path: Path) -> None:
    for scheme in ("rope", "alibi"):
        for seed in (0, 1):
            folder = write_run(tmp_path / "runs", scheme, seed, evaluate=False)
            write_evaluation(folder, scheme, seed)
    words = [sys.executable, "-m", "scripts.dashboard", str(tmp_path / "runs")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("wandb sync ")
    run = Path(done.stdout.split()[-1])
    assert list(run.glob("run-*.wandb"))
    media = {path.name.rsplit("_", 2)[0] for path in (run / "files" / "media").rglob("*.*")}
    assert {"perplexity", "report"} <= media
    tables = [json.loads(path.read_text()) for path in (run / "files" / "media" / "table").rglob("*.json")]
    assert any({row[0] for row in table["data"]} >= {"rope", "alibi"} for table in tables)


def test_a_workspace_is_for_the_server() -> None:
    with pytest.raises(ConfigError, match="--mode online"):
        dashboard.main(["runs", "--workspace"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_panels_show_what_is_logged() -> None:
    pytest.importorskip("wandb_workspaces")
    made = workspace("longrun", "team")
    panels = [panel for section in made.sections for panel in section.panels]
    shown = {y for panel in panels for y in getattr(panel, "y", None) or []}
    logged = {
        key
        for row in RECORD["rows"][:1]
        for record in (RECORD, WINDOW)
        for key in wandb_metrics.curve_point(record, row)
    }
    assert {key for key in shown if key.startswith("extrapolation")} - logged == {"extrapolation/exact_match/exact"}
    bars = {panel.metrics[0] for panel in panels if hasattr(panel, "metrics")}
    assert bars <= set(wandb_metrics.summary_columns(RECORD))
