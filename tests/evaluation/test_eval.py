"""What a number means: protocols against brute force, exact token accounting, results that can be recomputed."""

import json
import math
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F

from data.corpus import Corpus, prepare
from longrun.base.errors import DataError
from longrun.evaluation import Evaluation, evaluate
from longrun.evaluation.evaluation import extension_label
from longrun.evaluation.protocols import registry as protocols
from longrun.evaluation.results import write
from model import build
from model.errors import ModelError

LENGTH = 16
OPTIONS = {"fixed_targets": {"targets": 8, "blocks": 2}, "last_k": {"k": 4}}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    folder = tmp_path_factory.mktemp("text")
    rng = np.random.default_rng(0)
    for i in range(24):
        words = rng.choice(["alpha", "beta", "gamma", "delta", "\u03b5\u03bb", "."], size=40 + 3 * i)
        (folder / f"{i:02}.txt").write_text(" ".join(words), encoding="utf-8")
    options = {
        "name": "tiny", "source": "text", "path": str(folder), "text_field": "text", "separator": None,
        "pattern": "**/*.txt", "tokenizer": "byte", "vocab_size": 257, "valid_fraction": 0.1, "test_fraction": 0.4,
        "cache": str(tmp_path_factory.mktemp("cache")),
    }  # fmt: skip
    return prepare(options, progress=False)


def small(pe="rope", **options):
    torch.manual_seed(0)
    model = build(257, LENGTH, {"layers": 2, "width": 32, "heads": 4}, {"name": pe, **options})
    for p in model.parameters():  # an untrained model is too flat to tell protocols apart
        p.data.mul_(3)
    return model.eval()


def run(model, corpus, lengths=(LENGTH,), extension="none", protocol="fixed_targets", batch_tokens=512, **options):
    protocol = protocols.create(protocol, **{**OPTIONS.get(protocol, {}), **options})
    return Evaluation(model, corpus, protocol, lengths, "fp32", batch_tokens).score(extension)


def brute_force(model, corpus, length, stride):
    """Mean NLL with one window at a time and the whole logits of each: sliding windows as defined, no shared code."""
    tokens, offsets = corpus.tokens("test"), corpus.documents("test")
    total, count = 0.0, 0
    for start, stop in pairwise(offsets):
        if stop - start < length + 1:
            continue
        text = torch.from_numpy(np.asarray(tokens[start:stop]).astype(np.int64))
        done = 1  # the separator is never a target
        while done < len(text):
            end = min(length, len(text) - 1) if done == 1 else min(done + stride - 1, len(text) - 1)
            begin = 0 if done == 1 else done + stride - 1 - length
            logits = model(text[None, begin:end])[0]
            nll = F.cross_entropy(logits, text[begin + 1 : end + 1], reduction="none")
            new = end + 1 - done
            total, count, done = total + nll[-new:].double().sum().item(), count + new, end + 1
    return total / count, count


def test_nonoverlap_is_the_brute_force_loop_over_disjoint_windows(corpus):
    model = small()
    row = run(model, corpus, protocol="nonoverlap")[0]["rows"][0]
    nll, count = brute_force(model, corpus, LENGTH, LENGTH)
    assert row["tokens"] == count
    assert row["nll"] == pytest.approx(nll, abs=1e-6)
    assert row["ppl"] == pytest.approx(math.exp(nll), rel=1e-6)


@pytest.mark.parametrize("stride", [1, 5])
def test_sliding_is_the_brute_force_loop(corpus, stride):
    model = small("alibi")
    row = run(model, corpus, protocol="sliding", stride=stride, documents=3)[0]["rows"][0]
    table = run(model, corpus, protocol="sliding", stride=stride)[1]
    nll, count = brute_force(model, corpus, LENGTH, stride)
    assert table.num_rows == count
    assert np.mean(table["nll"].to_numpy().astype(np.float64)) == pytest.approx(nll, abs=1e-6)
    assert row["documents"] == 3


def test_sliding_by_a_whole_window_is_nonoverlap(corpus):
    model = small()
    a = run(model, corpus, protocol="sliding", stride=LENGTH)[0]
    b = run(model, corpus, protocol="nonoverlap")[0]
    assert a["targets_hash"] == b["targets_hash"]
    assert a["rows"][0]["nll"] == b["rows"][0]["nll"]


def test_fixed_targets_score_the_same_tokens_at_every_length_and_for_every_scheme(corpus):
    records, tables = zip(*(run(small(pe), corpus, (8, 16, 32, 64)) for pe in ("nope", "rope", "t5")), strict=True)
    assert len({record["targets_hash"] for record in records}) == 1
    for table in tables:
        frame = table.to_pandas()
        keys = [list(zip(*part[["document", "position", "token"]].T.to_numpy(), strict=True))
                for _, part in frame.groupby("length")]  # fmt: skip
        assert all(key == keys[0] for key in keys)
        assert (frame.groupby("length")["window_position"].max() == [7, 15, 31, 63]).all()


def test_figures_can_be_recomputed_from_the_tokens(corpus, tmp_path):
    record, table = run(small("kerple_log"), corpus, (8, 16, 64), protocol="per_position")
    write(record, table, tmp_path)
    stored = json.loads((tmp_path / "per_position.json").read_text())
    frame = pq.read_table(tmp_path / "per_position.parquet").to_pandas()
    for row in stored["rows"]:
        part = frame[frame.length == row["length"]]
        nll = part.nll.astype(float).sum()
        assert row["tokens"] == len(part)
        assert row["nll"] == pytest.approx(nll / len(part), rel=1e-12)
        assert row["bits_per_byte"] == pytest.approx(nll / math.log(2) / part.bytes.sum(), rel=1e-12)
    for row in stored["rows"]:  # the buckets divide the tokens of their length
        inside = [b for b in stored["buckets"] if b["length"] == row["length"]]
        assert sum(b["tokens"] for b in inside) == row["tokens"]
        assert sum(b["nll"] * b["tokens"] for b in inside) == pytest.approx(row["nll"] * row["tokens"], rel=1e-9)


def test_bits_per_byte_counts_the_bytes_of_the_text(corpus):
    row = run(small(), corpus, protocol="nonoverlap")[0]["rows"][0]
    assert row["bits_per_byte"] == pytest.approx(row["nll"] / math.log(2))  # a byte tokenizer: one byte a token


@pytest.mark.parametrize("protocol", ["fixed_targets", "nonoverlap", "sliding", "last_k", "per_position"])
def test_repeating_gives_the_same_bits_and_batching_does_not_matter(corpus, protocol):
    model = small("t5")
    first, again = (run(model, corpus, (8, 32), protocol=protocol) for _ in range(2))
    assert json.dumps(first[0]) == json.dumps(again[0])
    assert first[1].equals(again[1])
    other = run(model, corpus, (8, 32), protocol=protocol, batch_tokens=70)[0]
    for a, b in zip(first[0]["rows"], other["rows"], strict=True):
        assert a["nll"] == pytest.approx(b["nll"], abs=1e-5)


def test_the_windowed_control_changes_nothing_up_to_the_training_length(corpus):
    model = small("alibi")
    plain, control = (run(model, corpus, (8, 16, 64), extension=e)[0] for e in ("none", "window"))
    assert plain["targets_hash"] == control["targets_hash"]
    a, b = ([row["nll"] for row in record["rows"]] for record in (plain, control))
    assert a[:2] == b[:2]
    assert a[2] != b[2]


def test_a_table_that_ends_is_a_row_without_numbers(corpus):
    rows = run(small("learned"), corpus, (8, 16, 32))[0]["rows"]
    assert ["nll" in row for row in rows] == [True, True, False]
    assert "16" in rows[2]["refused"]


def test_dropout_is_off_and_the_mode_is_restored(corpus):
    model = build(257, LENGTH, {"layers": 2, "width": 32, "heads": 4, "dropout": 0.5}, "nope").train()
    a, b = (run(model, corpus)[0]["rows"][0]["nll"] for _ in range(2))
    assert a == b
    assert model.training


def test_what_cannot_be_measured_is_refused(corpus):
    with pytest.raises(DataError, match="longest"):
        run(small(), corpus, (100_000,))
    with pytest.raises(DataError, match="targets=9"):
        run(small(), corpus, (8,), targets=9)
    with pytest.raises(DataError, match="stride"):
        run(small(), corpus, (8,), protocol="sliding", stride=9)
    with pytest.raises(DataError, match="k=9"):
        run(small(), corpus, (8,), protocol="last_k", k=9)
    with pytest.raises(ModelError, match="ntk"):
        run(small("alibi"), corpus, (8,), extension="ntk")


def test_another_measurement_does_not_take_the_place_of_one(corpus, tmp_path: Path):
    """Nor does the control of one; the same measurement may be repeated."""
    model, ignore = small("rope"), lambda line: None

    def measure(extension: str, lengths=(16, 32), protocol="fixed_targets", **options):
        chosen = protocols.create(protocol, **{**OPTIONS[protocol], **options})
        evaluation = Evaluation(model, corpus, chosen, lengths, "fp32", batch_tokens=512)
        return evaluation.write(tmp_path, [extension], ignore, window_control=True)

    measure("none")
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix != ".jsonl"}
    assert sorted(files) == [
        f"fixed_targets{kind}" for kind in ("-window.json", "-window.parquet", ".json", ".parquet")
    ]
    for extension, options, message in (
        ("none", {"documents": 2}, "fixed_targets.json holds another measurement, with documents=null"),
        ("none", {"lengths": [16]}, "lengths=[16,32].\nThis one has lengths=[16]"),
        ("ntk", {"documents": 2}, "fixed_targets-window.json holds another"),
    ):
        with pytest.raises(DataError, match=re.escape(message)):
            measure(extension, **options)
    measure("none")
    measure("ntk")
    measure("none", protocol="last_k")
    assert {name: (tmp_path / name).read_bytes() for name in files} == files
    assert (tmp_path / "fixed_targets-ntk.json").is_file()


def test_labels_name_what_was_changed(tmp_path: Path):
    assert extension_label("none") == "none"
    assert extension_label({"name": "window", "size": 64}) == "window,size=64"


def test_from_python_by_name(corpus):
    record, table = evaluate(small(), corpus, "sliding", lengths=[8, 16], precision="fp32", stride=4, documents=2)
    assert (record["protocol"], record["options"]) == ("sliding", {"documents": 2, "stride": 4})
    assert table.num_rows == sum(row["tokens"] for row in record["rows"])


def test_the_text_is_read_and_the_windows_selected_once_for_all_extensions(corpus, tmp_path: Path, monkeypatch):
    calls, select = [], protocols.load("last_k").select
    monkeypatch.setattr(protocols.load("last_k"), "select", lambda self, *args: calls.append(1) or select(self, *args))
    evaluation = Evaluation(small(), corpus, protocols.create("last_k", k=4), [8, 32], "fp32")
    records = evaluation.write(tmp_path, ["none", "ntk"], lambda line: None, window_control=True)
    assert [record["extension"] for record in records] == ["none", "ntk", "window"]
    assert len(calls) == 1


@pytest.mark.parametrize("name", ["nonoverlap", "sliding", "last_k"])
def test_every_length_is_measured_on_the_same_documents(corpus, name):
    longest = int(np.median(np.diff(corpus.documents("test")))) - 1
    protocol = protocols.create(name, **OPTIONS.get(name, {}))
    short, long = (each.windows.document for each in protocol.select(corpus, [LENGTH, longest]).values())
    assert 0 < len(set(long.tolist())) < len(corpus.documents("test")) - 1  # some are too short
    assert set(short.tolist()) == set(long.tolist())


def test_sliding_windows_overlap_by_half_by_default(corpus):
    selections = [
        protocols.create("sliding", **options).select(corpus, [LENGTH]) for options in ({}, {"stride": LENGTH // 2})
    ]
    default, half = (each[LENGTH].windows for each in selections)
    assert np.array_equal(default.feed_start, half.feed_start)
    assert np.array_equal(default.score_start, half.score_start)
