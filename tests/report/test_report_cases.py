"""Reports on unusual roots: tokenizers, extensions, settings, protocols, diverged and single runs; the words on top."""

import json
import math

import numpy as np
import pytest
from report_runs import per_token, write_evaluation, write_files, write_run

from longrun.config.cli import guarded
from longrun.report.charts import figures_of
from longrun.report.compose import compose
from longrun.report.figures import write_figures
from longrun.report.markdown import markdown
from scripts.report import main


def report_on(*paths):
    """(report.json, report.md) without the figures, which take most of a report's time."""
    report = compose(list(paths), paths[0])
    return json.loads(report.json()), markdown(report)


def labels(report, study=0):
    return [line["label"] for line in report["studies"][study]["lines"]]


def test_different_tokenizers_leave_bits_per_byte(tmp_path):
    write_run(tmp_path, "rope", 0, window=False)
    write_run(tmp_path, "alibi", 0, window=False, tokenizer="bytes-99", targets_hash="other")
    report, text = report_on(tmp_path)
    assert report["studies"][0]["metrics"] == ["bpb"]
    assert report["studies"][0]["pairs"] == []
    assert "2 different tokenizers" in text
    assert "stretches of text that are not the same" in text
    assert "the same 4" not in text  # target tokens: each tokenizer has its own
    assert "## Bits per byte by evaluation length" in text
    assert "Perplexity by evaluation length" not in text
    assert "Lowest perplexity" not in text


def test_models_that_learned_nothing_are_not_praised_for_being_flat(tmp_path):
    folders = [write_run(tmp_path, scheme, 0) for scheme in ("alibi", "kerple_log")]
    assert report_on(tmp_path)[0]["headline"].startswith("All 2 schemes")
    for folder in folders:
        rows = [{"step": 10, "tokens": 1, "loss": 7.4}, {"step": 20, "tokens": 2, "loss": 6.5}]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = report_on(tmp_path)[0]
    assert "hardly trained: nothing can be said" in words["headline"]
    assert any("Hardly trained: kerple_log, alibi" in caveat for caveat in words["caveats"])


def test_different_tokenizers_on_different_text_are_refused(tmp_path, capsys):
    write_run(tmp_path, "rope", 0, window=False)
    write_run(tmp_path, "alibi", 0, window=False, tokenizer="bytes-99", data_fingerprint="ffff")
    assert guarded(lambda: main([str(tmp_path)])) == 2
    assert "data_fingerprint ffff" in capsys.readouterr().err


def test_every_extension_is_a_row_and_shares_the_window_of_its_checkpoint(tmp_path):
    folder = write_run(tmp_path, "rope", 0)
    write_evaluation(folder, "rope", 0, extension="yarn", like="alibi")
    report, text = report_on(tmp_path)
    assert labels(report) == ["rope + yarn", "rope"]
    assert set(report["studies"][0]["controls"]) == {"rope + yarn", "rope"}
    assert [line["label"] for line in report["studies"][0]["lines"] if line["control"]] == ["rope"]
    assert text.startswith("# 1 of 2 configurations")


def test_runs_of_one_scheme_are_told_apart_by_what_differs(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / "fast", "rope", seed, config={"optim": {"lr": 0.01}})
        write_run(tmp_path / "slow", "rope", seed, config={"train": {"length": 128, "steps": 90, "micro_batch": 4}})
    report, text = report_on(tmp_path)
    assert sorted(labels(report)) == ["rope (lr=0.003, batch=unset, steps=90)", "rope (lr=0.01, batch=32, steps=60)"]
    assert [line["seeds"] for line in report["studies"][0]["lines"]] == [[0, 1], [0, 1]]
    assert "Not trained on equal terms: train.steps is" in text


def test_a_named_group_stands_for_its_keys(tmp_path):
    write_run(tmp_path / "a", "rope", 0)
    write_run(tmp_path / "b", "rope", 0, config={"model": {"name": "small", "layers": 8, "width": 256}})
    report, _ = report_on(tmp_path)
    assert sorted(labels(report)) == ["rope (model=small)", "rope (model=tiny)"]


def test_every_protocol_has_its_tables(tmp_path):
    folder = write_run(tmp_path, "rope", 0)
    write_evaluation(folder, "rope", 0, protocol="nonoverlap", targets_hash="a+b", lengths=(64, 128, 256))
    report, text = report_on(tmp_path)
    assert [study["protocol"] for study in report["studies"]] == ["fixed_targets", "nonoverlap"]
    assert report["studies"][1]["lengths"] == [64, 128, 256]
    assert text.count("## Summary") == 2
    assert "figures/perplexity_nonoverlap.png" in text


def test_without_per_token_files_there_is_no_interval_and_no_pair(tmp_path):
    for scheme in ("rope", "alibi"):
        write_run(tmp_path, scheme, 0, parquet=False)
    report, text = report_on(tmp_path)
    assert report["studies"][0]["pairs"] == []
    assert "Pairwise" not in text
    assert "Holm p" not in text


def test_a_diverged_run_is_shown_and_named(tmp_path):
    write_run(tmp_path, "alibi", 0)
    folder = write_run(tmp_path, "rope", 0, parquet=False)
    path = folder / "eval" / "fixed_targets.json"
    record = json.loads(path.read_text())
    record["rows"][-1] |= {"nll": math.nan, "ppl": math.nan, "bits_per_byte": math.nan}
    record["rows"][-2] |= {"nll": 900.0, "ppl": math.exp(700), "bits_per_byte": 400.0}
    path.write_text(json.dumps(record))
    report, text = report_on(tmp_path)
    assert "NLL not finite, so without interval and comparison: rope (2,048)." in text
    assert any(row.startswith("| rope |") and "∞ | – |" in row for row in text.splitlines())
    rope = next(line for line in report["studies"][0]["lines"] if line["label"] == "rope")
    assert [point["ppl"][0] for point in rope["points"]][-2:] == [None, None]


def test_seeds_are_paired_and_a_missing_one_is_left_out(tmp_path):
    for seed in (0, 1, 2):
        write_run(tmp_path, "rope", seed)
    write_run(tmp_path, "alibi", 1)
    report, text = report_on(tmp_path)
    assert {tuple(pair["seeds"]) for pair in report["studies"][0]["pairs"]} == {(1,)}
    assert "1 to 3 seeds per scheme" in text


def test_unfinished_and_unevaluated_runs_are_named(tmp_path):
    unfinished = write_run(tmp_path, "rope", 0)
    (unfinished / "done").unlink()
    unevaluated = write_run(tmp_path, "t5", 0, evaluate=False)
    report, text = report_on(tmp_path)
    assert f"Training had not finished when these were read: {unfinished.name}." in text
    assert f"Not evaluated, so absent from the comparison: {unevaluated.name}." in text
    assert {curve["label"] for curve in report["training"]} == {"rope", "t5"}


def test_where_the_report_goes(tmp_path):
    a, b = (write_run(tmp_path / "root", "rope", seed, window=False) for seed in (0, 1))
    assert main([str(a), str(b)]) == 0
    assert (tmp_path / "root" / "report.html").exists()
    out = tmp_path / "new" / "folder"
    assert main([str(a), "--out", str(out)]) == 0
    assert labels(json.loads((out / "report.json").read_text())) == ["rope"]
    names = {"perplexity", "bits_per_byte", "gap", "training"}
    assert {file.name for file in (out / "figures").iterdir()} == {n + kind for n in names for kind in (".png", ".svg")}


def test_the_report_is_the_same_twice(tmp_path):
    write_run(tmp_path, "rope", 0, window=False)
    study = compose([tmp_path], tmp_path).numbers["studies"][0] | {"metrics": ["gap"]}
    for name in "ab":
        figures = figures_of({"studies": [study], "answers": [], "positions": None, "training": []})
        write_figures(figures, tmp_path / name)
    for name in ("gap.png", "gap.svg"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert report_on(tmp_path) == report_on(tmp_path)


@pytest.mark.parametrize(
    ("schemes", "starts"),
    [
        (
            ("alibi",),
            "alibi trained at 128 tokens holds its perplexity up to 2,048 tokens (16×): at most 10 % above its",
        ),
        (("t5",), "t5 trained at 128 tokens holds its perplexity up to 1,024 tokens (8×)"),
        (("rope", "nope"), "None of 2 schemes trained at 128 tokens holds its perplexity at 2,048 tokens (16×)"),
        (("alibi", "kerple_log"), "All 2 schemes trained at 128 tokens hold their perplexity at 2,048 tokens (16×)"),
        (("alibi", "kerple_log", "rope"), "2 of 3 schemes trained at 128 tokens hold their perplexity at 2,048 tokens"),
    ],
)
def test_the_headline_counts_what_holds(tmp_path, schemes, starts):
    for scheme in schemes:
        write_run(tmp_path, scheme, 0, window=False)
    assert report_on(tmp_path)[0]["headline"].startswith(starts)


@pytest.mark.parametrize(
    ("lengths", "says"), [((64, 128), "nothing beyond the training length yet"), ((256, 512), "no in-domain point yet")]
)
def test_the_headline_does_not_claim_what_was_not_measured(tmp_path, lengths, says):
    write_run(tmp_path, "rope", 0, window=False, lengths=lengths)
    assert says in report_on(tmp_path)[0]["headline"]


def test_a_difference_that_noise_explains_is_called_unresolved(tmp_path):
    write_run(tmp_path, "rope", 0, window=False)
    twin = write_run(tmp_path, "twin", 0, evaluate=False)
    columns = per_token("rope", 0)
    for each in columns.values():  # better by 0.1 nats on one half of the documents, worse by 0.1 on the other
        each["nll"] = each["nll"] + np.where(each["document"] % 2, 0.1, -0.1).astype(np.float32)
    write_files(twin, "twin", columns)
    report, text = report_on(tmp_path)
    for pair in report["studies"][0]["pairs"]:
        assert pair["difference"]["low"] < 0 < pair["difference"]["high"]
        assert not pair["significant"]
    assert "The difference is not resolved" in text


def test_unequal_seeds_are_said_where_the_number_stands(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path, "rope", seed)
    write_run(tmp_path, "alibi", 0)
    _, text = report_on(tmp_path)
    assert "Not the same seeds: 0 (alibi); 0, 1 (rope)." in text
    assert "on seed 0 that both have" in text


def test_models_that_use_no_context_are_not_praised_for_being_flat(tmp_path):
    folder = write_run(tmp_path, "alibi", 0, evaluate=False)
    columns = per_token("alibi", 0)
    for each in columns.values():
        each["nll"] = columns[128]["nll"]
    write_files(folder, "alibi", columns)
    write_run(tmp_path, "rope", 0)
    _, text = report_on(tmp_path)
    assert "Hardly use context: alibi (+0.000)" in text
    assert "rope (" not in next(row for row in text.splitlines() if "Hardly use context" in row)


def test_a_difference_is_read_in_the_order_of_its_sentence(tmp_path):
    """t5 is ahead at the training length and behind at the longest: the table holds alibi - t5 at both."""
    for scheme in ("t5", "alibi"):
        write_run(tmp_path, scheme, 0, window=False)
    report, _ = report_on(tmp_path)
    home = next(pair for pair in report["studies"][0]["pairs"] if pair["length"] == 128)
    assert (home["a"], home["b"]) == ("alibi", "t5")
    assert home["difference"]["mean"] > 0
    sentence = dict(report["findings"])["In-domain"]
    assert "runs from t5, " in sentence
    d = home["difference"]
    numbers = f"−{d['mean']:.3f} nats per token [−{d['high']:.3f}, {-d['low']:+.3f}]".replace("-", "−")
    assert numbers in sentence
