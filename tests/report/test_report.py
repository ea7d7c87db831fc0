"""The report's numbers against hand computations from the very tokens that were written, and what it refuses."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from report_runs import TRAIN_LENGTH, per_token, write_evaluation, write_positions, write_run

from longrun.config.cli import guarded
from longrun.report.compose import compose
from scripts.report import main

REPOSITORY = Path(__file__).resolve().parents[2]
SCHEMES = ("kerple_log", "rope", "learned")
BEYOND = (256, 512, 1024, 2048)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three schemes, two seeds: one flat, one exploding, one that refuses lengths beyond its table."""
    folder = tmp_path_factory.mktemp("runs") / "demo"
    for scheme in SCHEMES:
        for seed in (0, 1):
            run = write_run(folder, scheme, seed, refused=BEYOND if scheme == "learned" else ())
            if scheme != "learned":
                write_positions(run, scheme, seed)
    assert main([str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def report(root):
    return json.loads((root / "report.json").read_text())


@pytest.fixture(scope="module")
def text(root):
    return (root / "report.md").read_text()


def line(report, label):
    return next(each for each in report["studies"][0]["lines"] if each["label"] == label)


def point(report, label, length, kind="points"):
    return next(each for each in line(report, label)[kind] if each["length"] == length)


def tokens(scheme, length, **options):
    """NLL, document and bytes of every token of both seeds, seed by seed."""
    return [per_token(scheme, seed, **options)[length] for seed in (0, 1)]


def mean(columns):
    return float(np.concatenate([each["nll"].astype(np.float64) for each in columns]).mean())


@pytest.mark.parametrize("scheme", ["kerple_log", "rope"])
@pytest.mark.parametrize("length", [64, 128, 2048])
def test_perplexity_is_exp_of_the_mean_over_all_tokens(report, scheme, length):
    both = tokens(scheme, length)
    got = point(report, scheme, length)
    each = sorted(math.exp(mean([seed])) for seed in both)
    assert got["ppl"] == pytest.approx([math.exp(mean(both)), *each])
    assert got["ppl"][0] != pytest.approx(sum(each) / 2, rel=1e-9)  # never a mean of perplexities
    bits = sum(c["nll"].astype(np.float64).sum() for c in both) / math.log(2)
    assert got["bpb"][0] == pytest.approx(bits / sum(c["bytes"].sum(dtype=np.int64) for c in both))
    assert got["tokens"] == len(both[0]["nll"])
    assert got["gap"][0] == pytest.approx(mean(both) - mean(tokens(scheme, TRAIN_LENGTH)))


def test_windowed_control_is_its_own_line_of_numbers(report):
    got = point(report, "rope", 2048, "control")
    assert got["ppl"][0] == pytest.approx(math.exp(mean(tokens("rope", 2048, windowed=True))))


def document_means(a, b):
    """Mean over seeds and tokens of NLL a - b, and the same per document."""
    difference = np.mean([x["nll"].astype(np.float64) - y["nll"] for x, y in zip(a, b, strict=True)], axis=0)
    document = a[0]["document"]
    return difference.mean(), [difference[document == d].mean() for d in np.unique(document)]


@pytest.mark.parametrize("length", [128, 2048])
def test_pairwise_difference_is_over_the_same_tokens(report, length):
    pair = next(
        p for p in report["studies"][0]["pairs"] if (p["a"], p["b"], p["length"]) == ("kerple_log", "rope", length)
    )
    want, documents = document_means(tokens("kerple_log", length), tokens("rope", length))
    assert pair["difference"]["mean"] == pytest.approx(want)
    assert pair["difference"]["won"] == np.mean(np.array(documents) < 0)
    assert pair["difference"]["low"] < want < pair["difference"]["high"]
    assert (pair["difference"]["documents"], pair["difference"]["seeds"], pair["seeds"]) == (16, 2, [0, 1])


def test_pairs_reach_to_the_longest_length_that_both_serve(report):
    found = {(p["a"], p["b"]): p["length"] for p in report["studies"][0]["pairs"] if p["length"] > TRAIN_LENGTH}
    assert found == {("kerple_log", "rope"): 2048}
    with_table = [p["length"] for p in report["studies"][0]["pairs"] if "learned" in (p["a"], p["b"])]
    assert with_table == [TRAIN_LENGTH, TRAIN_LENGTH]


def test_holm_runs_over_the_whole_table(report):
    pairs = report["studies"][0]["pairs"]
    p = sorted(pair["difference"]["p"] for pair in pairs)
    assert min(pair["p_holm"] for pair in pairs) == pytest.approx(min(1, len(pairs) * p[0]))


def test_context_is_judged_against_the_own_window(report):
    control = report["studies"][0]["controls"]["rope"]
    want, _ = document_means(tokens("rope", 2048), tokens("rope", 2048, windowed=True))
    assert control["difference"]["mean"] == pytest.approx(want)
    assert control["length"] == 2048
    assert control["difference"]["mean"] > 0
    assert control["significant"]


def test_gap_has_the_interval_of_its_own_documents(report):
    low, high = point(report, "rope", 512)["gap_interval"]
    want, documents = document_means(tokens("rope", 512), tokens("rope", TRAIN_LENGTH))
    assert low < want < high
    assert min(documents) < low
    assert high < max(documents)


def test_usable_length(report):
    assert [line(report, scheme)["usable_length"] for scheme in SCHEMES] == [2048, 128, 128]


def test_the_text_has_the_numbers_and_what_could_not_be_measured(report, text):
    ppl = point(report, "rope", 2048)["ppl"]
    assert f"{ppl[0]:.1f} ({ppl[1]:.1f}–{ppl[2]:.1f})" in text
    best, other = (point(report, scheme, 2048)["ppl"][0] for scheme in ("kerple_log", "rope"))
    assert f"**{best:.2f}**" in text
    assert f"**{other:.1f}**" not in text
    rows = [row for row in text.splitlines() if row.startswith("| learned |")]
    assert rows[1].count("n/a") == 4
    assert "learned from 256 tokens (the table has 128 positions, asked for 256)" in text
    assert text.startswith("# 1 of 3 schemes trained at 128 tokens holds its perplexity at 2,048 tokens (16×)")
    assert "2 seeds per scheme" in text
    for fact in ("targets_hash: 5f3a9c1e7b20", "data fingerprint: d4e5f6a7", "tokenizer digest: bpe-1a2b3c"):
        assert fact in text
    assert "python train.py -m pe=kerple_log,learned,rope seed=0,1 data=stdlib model=tiny train.length=128" in text
    for row in (
        "| scheme | seeds | parameters |",
        "| A | B | length |",
        "| scheme | parameters | without embeddings |",
    ):
        assert row in text


def test_figures_are_images(root):
    for stem in ("perplexity", "bits_per_byte", "gap", "nll_by_position", "training"):
        assert (root / "figures" / f"{stem}.png").read_bytes().startswith(b"\x89PNG")
        assert (root / "figures" / f"{stem}.svg").read_text().count("<path") > 10


def test_positions_are_averaged_by_token(report, root):
    curve = next(each for each in report["positions"]["lines"] if each["label"] == "rope")
    last = curve["points"][-1]
    assert sum(p["tokens"] for p in curve["points"]) == 2 * 2048
    assert (curve["points"][0]["from"], last["to"]) == (0, 2048)
    buckets = json.loads(next(root.glob("rope*s0*/eval/per_position.json")).read_text())["buckets"]
    inside = [p for p in curve["points"] if p["to"] <= TRAIN_LENGTH]
    seed_0 = sum(p["nll"][1] * p["tokens"] for p in inside) / sum(p["tokens"] for p in inside)
    assert seed_0 == pytest.approx(buckets[0]["nll"], rel=1e-5)


def test_positions_without_tokens_fall_back_to_buckets(tmp_path):
    write_positions(write_run(tmp_path, "rope", 0, window=False), "rope", 0, parquet=False)
    curve = compose([tmp_path], tmp_path).numbers["positions"]["lines"][0]["points"]
    assert [(p["from"], p["to"]) for p in curve] == [(0, 128), (128, 256), (256, 512), (512, 1024), (1024, 2048)]


def test_a_resumed_and_a_running_metrics_file(tmp_path):
    folder = write_run(tmp_path, "rope", 0, steps=60, window=False)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 60, "tokens": 245760, "loss": 9.0, "grad_norm": 1.0}\n{"step": 70, "tok')
    rows = compose([tmp_path], tmp_path).numbers["training"][0]["rows"]
    assert [row[0] for row in rows] == [40960, 81920, 122880, 163840, 204800, 245760]
    assert rows[-1][1] == 9.0


def refusal(capsys, *arguments):
    assert guarded(lambda: main(list(map(str, arguments)))) == 2
    return capsys.readouterr().err


def test_other_targets_are_not_compared(tmp_path, capsys):
    ours = write_run(tmp_path, "rope", 0, window=False)
    other = write_run(tmp_path, "alibi", 0, window=False, targets_hash="0123456789ab")
    message = refusal(capsys, tmp_path)
    for name in ("fixed_targets", "5f3a9c1e7b20", "0123456789ab", str(ours), str(other), "python -m scripts.report"):
        assert name in message
    assert not (tmp_path / "report.html").exists()
    assert compose([ours], tmp_path).numbers["studies"][0]["lines"][0]["label"] == "rope"


def test_arguments(tmp_path, capsys):
    assert "does not exist" in refusal(capsys, tmp_path / "nowhere")
    file = tmp_path / "file"
    file.write_text("")
    assert "is a file" in refusal(capsys, file)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no run in" in refusal(capsys, empty)
    trained = write_run(tmp_path / "trained", "rope", 0, evaluate=False)
    assert f"python eval.py run={trained}" in refusal(capsys, trained)
    a, b = (write_run(tmp_path / name, "rope", seed) for seed, name in enumerate("ab"))
    assert "--out" in refusal(capsys, a, b)
    assert "is a file" in refusal(capsys, a, "--out", file)


def test_files_that_contradict_each_other(tmp_path, capsys):
    folder = write_run(tmp_path, "rope", 0, window=False)
    path = folder / "eval" / "fixed_targets.json"
    whole = path.read_text()
    record = json.loads(whole)
    record["rows"][0]["ppl"] *= 1.5
    path.write_text(json.dumps(record))
    assert "never a mean of perplexities" in refusal(capsys, tmp_path)
    path.write_text(whole[:300])
    assert "cannot be read as JSON" in refusal(capsys, tmp_path)
    path.write_text(json.dumps({"protocol": "fixed_targets"}))
    assert "'scheme' is missing" in refusal(capsys, tmp_path)
    write_evaluation(folder, "rope", 7)
    path.write_text(whole)
    assert "does not belong to the JSON" in refusal(capsys, tmp_path)


def test_two_runs_that_nothing_tells_apart(tmp_path, capsys):
    folders = [write_run(tmp_path / name, "rope", 0) for name in "ab"]
    message = refusal(capsys, tmp_path)
    assert all(str(folder) in message for folder in folders)


def test_the_command_answers_without_a_traceback(tmp_path):
    command = [sys.executable, "-m", "scripts.report", str(tmp_path / "nowhere")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 2
