"""Claims: every experiment can be run at both sizes, and a verdict follows from the numbers and from nothing else."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from report_runs import TRAIN_LENGTH, write_evaluation, write_run
from tiny_configs import ROOT, config

from longrun.claims.evidence import Evidence, experiments, runs_folder
from longrun.claims.results import SIZES
from longrun.claims.rules import RULES
from longrun.claims.sweeps import run_sweeps
from longrun.config.compose import options
from longrun.report.bootstrap import mean_reciprocal_rank, reciprocal_ranks
from longrun.report.report import report
from scripts import claims

EXPERIMENTS = {each.name: each for each in experiments()}
LENGTHS = tuple(TRAIN_LENGTH * 2**n for n in range(6))
PLAIN = {"positions": {"name": "contiguous"}}
TASKS = ("copy", "sort")


def test_every_claim_has_a_rule_and_says_what_would_agree():
    assert sorted(EXPERIMENTS) == sorted(RULES)
    for each in EXPERIMENTS.values():
        assert len(each.swept["seed"]) >= 3
        assert each.claim
        assert each.source
        assert each.agrees


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_run_of_an_experiment_composes(name: str, size: str):
    each = EXPERIMENTS[name]
    scale = each.scale_for(size)
    for key, values in each.swept.items():
        assert key == "seed" or set(values) <= set(options(key))
    last = " ".join(f"{key}={values[-1]}" for key, values in each.swept.items())
    made = config(f"experiment={name} scale={scale} {last}")
    assert made.root == str(runs_folder(scale))
    assert max(made.eval.resolved_lengths(made.train.length)) >= 5 * made.train.length


def test_experiments_of_one_size_share_their_runs():
    """A run that two claims need is made once."""
    a = config("experiment=rope_degrades pe=rope seed=1")
    b = config("experiment=extensions_of_rope pe=rope seed=1")
    from longrun.runs.run_folder import RunFolder

    assert RunFolder.of(a).path == RunFolder.of(b).path
    assert a.eval.extensions == b.eval.extensions
    assert {"ntk", "rerope"} <= {each["name"] for each in a.eval.extensions}


def text_runs(root: Path, scheme: str, like: str | None = None, **options) -> Evidence:
    """Three seeds of a scheme whose NLL follows the shapes of report_runs, or another scheme's."""
    for seed in range(3):
        folder = write_run(root, scheme, seed, evaluate=False, config=PLAIN)
        for extension in ("none", "window"):
            write_evaluation(folder, scheme, seed, extension, LENGTHS, like=like or scheme, **options)
    return Evidence(root, next(each for each in EXPERIMENTS.values() if each.swept["pe"] == [scheme]))


@pytest.mark.parametrize(
    ("name", "like", "verdict"),
    [
        ("sinusoidal_explodes", "sinusoidal", "agrees"),
        ("sinusoidal_explodes", "t5", "disagrees"),
        ("rope_degrades", "rope", "agrees"),
        ("rope_degrades", "kerple_log", "disagrees"),
        ("alibi_is_flat", "alibi", "agrees"),
        ("alibi_is_flat", "rope", "disagrees"),
        ("kerple_improves", "kerple_log", "agrees"),
        ("kerple_improves", "rope", "disagrees"),
        ("t5_turns", "t5", "agrees"),
        ("t5_turns", "kerple_log", "disagrees"),
    ],
)
def test_verdicts_on_perplexity(tmp_path: Path, name: str, like: str, verdict: str):
    (scheme,) = EXPERIMENTS[name].swept["pe"]
    evidence = text_runs(tmp_path, scheme, like, size={"documents": 1200, "tokens": 8})
    finding = RULES[name](Evidence(tmp_path, EXPERIMENTS[name]))
    assert finding.verdict == verdict, finding
    assert evidence.folder == tmp_path


def test_a_change_is_what_the_files_hold(tmp_path: Path):
    """The mean of an interval against the numbers of the JSON files."""
    evidence = text_runs(tmp_path, "rope")
    change = evidence.nll_difference(("rope", 4), ("rope", 1))
    rows = [json.loads(path.read_text())["rows"] for path in sorted(tmp_path.glob("*/eval/fixed_targets.json"))]
    gaps = [{row["length"]: row["nll"] for row in each} for each in rows]
    assert change.mean == pytest.approx(np.mean([g[4 * TRAIN_LENGTH] - g[TRAIN_LENGTH] for g in gaps]), abs=1e-6)
    assert change.low < change.mean < change.high
    assert change.seeds == 3
    assert evidence.seeds == {0, 1, 2}


def test_extensions_are_compared_on_the_same_targets(tmp_path: Path):
    name = "extensions_of_rope"
    for seed in range(3):
        folder = write_run(tmp_path, "rope", seed, evaluate=False, config=PLAIN)
        for extension, like in (("none", "rope"), ("ntk", "alibi"), ("rerope", "kerple_log")):
            write_evaluation(folder, "rope", seed, extension, LENGTHS, like=like, size={"documents": 200})
    finding = RULES[name](Evidence(tmp_path, EXPERIMENTS[name]))
    assert finding.verdict == "agrees"
    assert finding.numbers[0].startswith("rerope minus ntk −")


@pytest.mark.parametrize(("like", "refused", "verdict"), [("rope", True, "agrees"), ("rope", False, "disagrees")])
def test_learned_positions_end(tmp_path: Path, like: str, refused: bool, verdict: str):
    for seed in range(3):
        folder = write_run(tmp_path, "learned", seed, evaluate=False, config=PLAIN)
        beyond = LENGTHS[1:] if refused else ()
        write_evaluation(folder, "learned", seed, "none", LENGTHS, beyond, like="alibi", size={"documents": 200})
        write_evaluation(folder, "learned", seed, "table_interpolation", like=like, size={"documents": 200})
    assert RULES["learned_ends"](Evidence(tmp_path, EXPERIMENTS["learned_ends"])).verdict == verdict


@pytest.mark.parametrize(("like", "verdict"), [("alibi", "agrees"), ("rope", "disagrees")])
def test_both_decays_must_be_flat(tmp_path: Path, like: str, verdict: str):
    for seed in range(3):
        for scheme, shape in (("sandwich", "alibi"), ("fox", like)):
            folder = write_run(tmp_path, scheme, seed, evaluate=False, config=PLAIN)
            write_evaluation(folder, scheme, seed, "none", LENGTHS, like=shape, size={"documents": 1200, "tokens": 8})
    assert RULES["decay_is_flat"](Evidence(tmp_path, EXPERIMENTS["decay_is_flat"])).verdict == verdict


def answers(folder: Path, scheme: str, seed: int, task: str, right: float, cells: bool = False) -> None:
    """An evaluation of questions: all right up to the training length, `right` of them beyond it."""
    rows, columns, rng = [], {"length": [], "document": [], "hit": []}, np.random.default_rng([seed, len(scheme)])
    for length in (64, 128, 256, 512):
        good = rng.random(100) < (1.0 if length <= TRAIN_LENGTH else right)
        rows.append({"length": length, "tokens": 300, "nll": 0.5, "ppl": np.exp(0.5), "bits_per_byte": 0.7})
        rows[-1] |= {"trials": 100, "matches": int(good.sum()), "exact": float(good.mean())}
        hit = np.ones((100, 3), bool)
        hit[~good, seed % 3] = False
        columns["length"] += [length] * 300
        columns["document"] += np.repeat(np.arange(100), 3).tolist()
        columns["hit"] += hit.ravel().tolist()
    record = {"protocol": "exact_match", "scheme": scheme, "extension": "none", "train_length": TRAIN_LENGTH}
    record |= {"targets_hash": task, "tokenizer": "x", "data": task, "rows": rows, "options": {"trials": 100}}
    name = "exact_match"
    if cells:
        record["protocol"] = name = "needle-single"
        record["cells"] = [
            {"length": n, "depth": d, "trials": 50, "matches": 40 if n <= TRAIN_LENGTH else 5}
            for n in (64, 128, 256, 512)
            for d in (0.0, 1.0)
        ]
    (folder / "eval").mkdir(exist_ok=True)
    (folder / "eval" / f"{name}.json").write_text(json.dumps(record))
    pq.write_table(pa.table(columns), folder / "eval" / f"{name}.parquet")


def task_runs(root: Path, shares: dict[str, float], tasks=TASKS, plan: str = "contiguous") -> None:
    for task in tasks:
        for scheme, right in shares.items():
            for seed in range(3):
                named = {"positions": {"name": plan}, "data": {"name": task}}
                folder = write_run(root / task / plan, scheme, seed, evaluate=False, config=named)
                answers(folder, scheme, seed, task, right)


def judged(name: str, root: Path, tasks=TASKS):
    each = EXPERIMENTS[name]
    return RULES[name](Evidence(root, type(each)(**{**vars(each), "swept": each.swept | {"data": list(tasks)}})))


def test_nope_leads_where_it_does(tmp_path: Path):
    shares = {"nope": 0.8, "t5": 0.5, "alibi": 0.4, "rope": 0.3, "sinusoidal": 0.05}
    task_runs(tmp_path / "a", shares)
    finding = judged("nope_leads_on_tasks", tmp_path / "a")
    assert finding.verdict == "agrees"
    assert [number.split()[0] for number in finding.numbers] == list(shares)
    task_runs(tmp_path / "b", shares | {"rope": 0.99})
    assert judged("nope_leads_on_tasks", tmp_path / "b").verdict == "disagrees"
    task_runs(tmp_path / "c", dict.fromkeys(shares, 0.0))
    assert judged("nope_leads_on_tasks", tmp_path / "c").verdict == "undecided"  # nobody solves anything


def test_randomised_positions_and_gates(tmp_path: Path):
    for plan, right in (("contiguous", 0.1), ("randomised", 0.4)):
        task_runs(tmp_path / "a", {"rope": right}, plan=plan)
    finding = judged("randomised_positions_help", tmp_path / "a")
    assert finding.verdict == "agrees"
    assert 25 < float(finding.numbers[0].split()[0]) < 35
    assert len(finding.numbers) == 1 + len(TASKS)
    task_runs(tmp_path / "b", {"rope": 0.1, "fox": 0.4, "path": 0.2}, ("recall",))
    assert judged("gates_retrieve", tmp_path / "b", ("recall",)).verdict == "disagrees"


def test_files_that_contradict_each_other_are_refused(tmp_path: Path):
    task_runs(tmp_path, {"rope": 0.5, "fox": 0.5, "path": 0.5}, ("recall",))
    file = next(tmp_path.rglob("exact_match.json"))
    record = json.loads(file.read_text())
    record["rows"][-1]["matches"] += 1
    file.write_text(json.dumps(record))
    with pytest.raises(ValueError, match="does not belong"):
        judged("gates_retrieve", tmp_path, ("recall",))


def test_ranks_share_ties_and_average_over_tasks():
    assert reciprocal_ranks(np.array([0.5, 0.2, 0.9, 0.2])).tolist() == pytest.approx([1 / 2, 1 / 3.5, 1, 1 / 3.5])
    rng = np.random.default_rng(0)
    shares = np.array([[0.9, 0.5, 0.1], [0.2, 0.6, 0.3], [0.0, 0.0, 0.0]])
    matches = [rng.random((3, 3, 400)) < row[:, None, None] for row in shares]
    ranked = mean_reciprocal_rank(matches)
    by_hand = [(1 + 1 / 3 + 1 / 2) / 3, (1 / 2 + 1 + 1 / 2) / 3, (1 / 3 + 1 / 2 + 1 / 2) / 3]
    assert [each.mrr for each in ranked] == pytest.approx(by_hand)
    for each in ranked:
        assert each.low <= each.mrr <= each.high
    nobody = mean_reciprocal_rank([np.zeros((3, 2, 50), bool)])
    assert [each.first for each in nobody] == [0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="for each task"):
        mean_reciprocal_rank([matches[0], matches[1][:2]])


def test_the_command_reads_writes_and_renews(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out, root = tmp_path / "results.md", tmp_path / "claims"
    assert claims.main(["--root", str(root), "--out", str(out)]) == 0
    assert "NOT RUN" in capsys.readouterr().out
    assert not out.exists()
    text_runs(root / "text_cpu", "alibi", size={"documents": 1200, "tokens": 8})
    out.write_text("# Results\n\nby hand\n")
    claims.main(["--root", str(root), "--out", str(out), "--only", "alibi_is_flat"])
    assert "AGREES" in capsys.readouterr().out
    first = out.read_text()
    assert first.startswith("# Results\n\nby hand\n")
    assert first.count("**agrees**") == 1
    assert first.count("**not run**") == len(EXPERIMENTS) - 1
    claims.main(["--root", str(root), "--out", str(out)])
    assert out.read_text() == first


def test_a_run_is_stopped_when_the_time_is_over(tmp_path: Path):
    code = run_sweeps([EXPERIMENTS["alibi_is_flat"]], "cpu", tmp_path, minutes=0.001)
    assert code == 130
    assert not list(tmp_path.rglob("done"))


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_nothing_goes_on_after_sigterm(tmp_path: Path):
    words = [sys.executable, "-m", "scripts.claims", "--run", "--only", "alibi_is_flat", "--root", str(tmp_path)]
    process = subprocess.Popen(words, cwd=ROOT, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_until(lambda: list(tmp_path.rglob("*.log")))  # a job of the sweep has begun
    process.terminate()
    process.communicate(timeout=90)
    wait_until(lambda: not processes_with(str(tmp_path)), seconds=5)


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def processes_with(word: str) -> list[str]:
    """Command lines of running processes that mention the word."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in found if word in line]


def test_the_report_shows_right_answers(tmp_path: Path):
    task_runs(tmp_path / "runs", {"rope": 0.3, "alibi": 0.6})
    folder = write_run(tmp_path / "runs", "rope", 0, evaluate=False, config=PLAIN)
    answers(folder, "rope", 0, "stdlib", 0.1, cells=True)
    written = report([tmp_path / "runs"], tmp_path)
    markdown = (tmp_path / "report.md").read_text()
    assert "## Ranking over tasks" in markdown
    assert "| alibi | 1.00 | [1.00, 1.00] | 100 % |" in markdown
    for title in ("Accuracy: copy", "Accuracy: sort", "Accuracy: needle-single", "needle-single: rope"):
        assert f"## {title}" in markdown
    assert "10 % [4, 21]" in markdown  # 5 of 50: Wilson's interval
    html = (tmp_path / "report.html").read_text()
    assert 'class="heat" style="--depth: 0.68"' in html  # 40 of 50
    for figure in ("exact_match.png", "needle-single.svg"):
        assert (tmp_path / "figures" / figure).stat().st_size > 1000
    assert len(written) == 3


def test_scales_name_their_folder():
    for path in (ROOT / "configs" / "scale").glob("*.yaml"):
        assert yaml.safe_load(path.read_text())["root"] == f"runs/claims/{path.stem}"


def test_what_an_encoding_cannot_serve_is_wrong_and_what_is_not_asked_is_not(tmp_path: Path):
    """Right answers beyond the training length, of a table that ends there, and of a task that runs out of names."""
    from longrun.report.accuracy import correct_beyond
    from longrun.report.load import read_evaluation

    folder = write_run(tmp_path, "learned", 0, evaluate=False, config=PLAIN)
    answers(folder, "learned", 0, "copy", 1.0)
    file = folder / "eval" / "exact_match.json"
    record = json.loads(file.read_text())
    record["rows"][2] = {"length": 256, "refused": "no positions", "by": "encoding"}
    record["rows"].append({"length": 1024, "refused": "no questions", "by": "data"})
    file.write_text(json.dumps(record))
    found = correct_beyond(read_evaluation(file, {}))
    assert found.tolist() == [False] * 100 + [True] * 100
