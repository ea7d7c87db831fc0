"""The same evaluations in another process leave the same bytes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from training_runs import ROOT, SMALL, command, run, write_corpus

SCHEMES = ("nope", "sinusoidal", "learned", "rope", "alibi", "t5", "kerple_log", "fox", "rerope", "sandwich")
PROTOCOLS = ("fixed_targets", "nonoverlap", "sliding", "last_k", "per_position")
LENGTHS = "8,16,24,32,48,64"

MEASURE = f"""
import sys
from pathlib import Path
from longrun.config import compose, cross_checks, schema
from longrun.evaluation.results import write
from longrun.evaluation import Evaluation, load_run
for done in sorted(Path(sys.argv[1]).glob("*/done")):
    for protocol in {PROTOCOLS}:
        words = [f"run={{done.parent}}", f"protocol={{protocol}}", "documents=4", "lengths=[{LENGTHS}]"]
        words += ["k=4"] if protocol == "last_k" else []
        values = compose.compose("eval", schema.EvalRunConfig, compose.parse(words), lambda values: None)
        config = cross_checks.eval_config(values)
        model, data = load_run(config.run, config.data)
        evaluation = Evaluation.from_config(model, data, config, "auto")
        write(*evaluation.score(), Path(sys.argv[2]) / done.parent.name)
"""


def measure(root: Path, out: Path) -> dict[str, bytes]:
    """Every protocol for every run, by a process of its own: the bytes of the files by name."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", MEASURE, str(root), str(out)], cwd=ROOT, env=environment, check=True)
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


@pytest.mark.stress
def test_ten_schemes_six_lengths_five_protocols_twice(tmp_path: Path):
    corpus = write_corpus(tmp_path)
    swept = ["-m", f"pe={','.join(SCHEMES)}", "train.steps=20", "eval_at_end=false", f"root={tmp_path / 'runs'}"]
    run(command(*SMALL, *corpus, *swept))
    first, again = (measure(tmp_path / "runs", tmp_path / name) for name in ("first", "again"))
    assert sum(name.endswith(".json") for name in first) == len(SCHEMES) * len(PROTOCOLS)
    assert first == again
