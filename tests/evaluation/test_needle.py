"""Needles: a document has the length and the hidden statements that it is said to have; the answer alone is scored."""

import json
import re

import numpy as np
import pytest
import torch

from data.corpus import Corpus, prepare
from longrun.base.errors import DataError
from longrun.evaluation import evaluate
from longrun.evaluation.protocols.needle import VARIANTS, Needle
from longrun.evaluation.results import write
from model import build

LENGTHS = [200, 320]


@pytest.fixture(scope="module", params=["byte", "bpe"])
def corpus(request, tmp_path_factory) -> Corpus:
    folder = tmp_path_factory.mktemp("text")
    rng = np.random.default_rng(0)
    for i in range(20):
        words = rng.choice(["alpha", "beta", "gamma", "delta", "\u03b5\u03bb", "12", "."], size=700 + 30 * i)
        (folder / f"{i:02}.txt").write_text(" ".join(words), encoding="utf-8")
    options = {
        "name": "tiny", "source": "text", "path": str(folder), "text_field": "text", "separator": None,
        "pattern": "**/*.txt", "tokenizer": request.param, "vocab_size": 300, "valid_fraction": 0.1,
        "test_fraction": 0.4, "cache": str(tmp_path_factory.mktemp("cache")),
    }  # fmt: skip
    return prepare(options, progress=False)


def needle(variant: str, **options) -> Needle:
    return Needle(**{"variant": variant, "trials": 12, "depths": [0.0, 0.5, 1.0], "needles": 3, **options})


def texts(corpus, selection) -> list[tuple[str, str, np.ndarray]]:
    """Of every trial: what is fed up to the answer, the answer, and the ids of the whole."""
    found = []
    w = selection.windows
    for a, b, c in zip(w.feed_start, w.score_start, w.score_end, strict=True):
        ids = selection.tokens[a:c]
        found.append((corpus.tokenizer.decode(ids[1 : b - a]), corpus.tokenizer.decode(ids[b - a :]), ids))
    return found


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_document_has_the_length_that_it_is_filed_under(corpus, variant: str):
    found = needle(variant).select(corpus, LENGTHS)
    for length, selection in found.items():
        assert set(selection.windows.feed_lengths.tolist()) == {length}
        assert len(selection.windows) == 3 * 12
        assert np.array_equal(np.diff(selection.offsets), np.full(36, length + 1))
        assert (selection.tokens[selection.offsets[:-1]] == corpus.tokenizer.separator).all()
        assert (selection.tokens == corpus.tokenizer.separator).sum() == 36
        assert np.array_equal(selection.windows.score_end, selection.offsets[1:])


def codes(text: str, word: str) -> list[str]:
    """What the text says about a word, read as a person would."""
    return [line.removeprefix(f"The code of {word} is ").strip(".") for line in text.splitlines()
            if line.startswith(f"The code of {word} is ")]  # fmt: skip


def answered(text: str, variant: str) -> list[str]:
    """The answer to the question at the end, from nothing but the text in front of it."""
    *lines, question = text.splitlines()
    body = "\n".join(lines)
    words = question.split()
    if variant in ("single", "multi_key"):
        (only,) = codes(body, words[3])
        return [only]
    if variant == "multi_value":
        return codes(body, words[4])
    if variant == "multi_query":
        asked = question.removeprefix("The codes of ").removesuffix(" are").split(", ")
        return [codes(body, word)[0] for word in asked]
    known, names = words[-2], []
    while lines:  # names in the order in which they are defined, each by one that is known
        line = lines.pop(0)
        if " stands for " in line:
            name, what = line.rstrip(".").split(" stands for ")
            if what in [known, *names]:
                names.append(name)
    return names


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_answer_follows_from_the_text(corpus, variant: str):
    count = 1 if variant in ("single", "multi_key") else 3
    for selection in needle(variant).select(corpus, LENGTHS).values():
        seen = set()
        for text, answer, _ in texts(corpus, selection):
            assert answer.split() == answered(text, variant)
            assert len(answer.split()) == count
            assert text.count(" is ") + text.count(" stands for ") == (1 if variant == "single" else 3)
            seen.add(answer)
        assert len(seen) == 12


@pytest.mark.parametrize("variant", ["single", "multi_key"])
def test_depth_is_where_the_asked_statement_stands(corpus, variant: str):
    selection = needle(variant, depths=[0.0, 0.25, 1.0], trials=5).select(corpus, [320])[320]
    for depth, (text, answer, ids) in zip(selection.labels["depth"], texts(corpus, selection), strict=True):
        before, behind = text.split(f"{answer}.\n")
        filler = [len(re.sub(r"\nThe code of \w+ is( \d+\.\n)?", "", part)) for part in (before, behind)]
        assert filler[0] / sum(filler) == pytest.approx(depth, abs=0.1)
        shown = corpus.tokenizer.encode(answer).tolist()  # the statement has the very tokens of the answer
        inside = [i for i in range(len(ids)) if ids[i : i + len(shown)].tolist() == shown]
        assert len(inside) == 2


def test_a_trial_is_the_same_at_every_length_and_again(corpus):
    first, again = (needle("multi_query").select(corpus, LENGTHS) for _ in range(2))
    short, long = ([answer for _, answer, _ in texts(corpus, first[n])] for n in LENGTHS)
    assert short == long
    assert np.array_equal(first[320].tokens, again[320].tokens)


def test_what_does_not_fit_is_refused(corpus):
    found = needle("multi_value").select(corpus, [16, 320])
    assert isinstance(found[16], DataError)
    assert "tokens by itself" in str(found[16])
    with pytest.raises(DataError, match="Try lengths"):
        needle("single").select(corpus, [16])
    with pytest.raises(DataError, match="longest"):
        needle("single").select(corpus, [100_000])


def model_for(corpus, pe="alibi"):
    torch.manual_seed(0)
    return build(corpus.tokenizer.vocab_size, 200, {"layers": 1, "width": 32, "heads": 2}, pe).eval()


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_cells_and_files(corpus, variant: str, tmp_path):
    protocol = needle(variant, trials=4, generate=True)
    record, table = evaluate(model_for(corpus), corpus, protocol, LENGTHS, precision="fp32")
    write(record, table, tmp_path)
    stored = json.loads((tmp_path / f"needle-{variant}.json").read_text())
    assert stored["protocol"] == f"needle-{variant}"
    assert ("needles" in stored["options"]) == (variant != "single")
    for row in stored["rows"]:
        cells = [cell for cell in stored["cells"] if cell["length"] == row["length"]]
        assert [cell["depth"] for cell in cells] == [0.0, 0.5, 1.0]
        assert sum(cell["trials"] for cell in cells) == row["trials"] == 12
        assert sum(cell["matches"] for cell in cells) == row["matches"]
        assert sum(cell["nll"] * cell["tokens"] for cell in cells) == pytest.approx(row["nll"] * row["tokens"])
        assert row["generated_matches"] == row["matches"] == 0  # untrained
        assert 0 <= row["recall"] < 0.2


def test_a_model_that_knows_the_text_by_heart_finds_everything(corpus):
    """Trained on the very trials, teacher forcing and generation both reach what they then agree on."""
    torch.manual_seed(0)
    model = build(corpus.tokenizer.vocab_size, 200, {"layers": 2, "width": 64, "heads": 2}, "rope")
    protocol = needle("single", trials=4, depths=[0.5], generate=True)
    selection = protocol.select(corpus, [120])[120]
    rows = torch.from_numpy(selection.tokens.reshape(4, -1))
    targets = rows[:, 1:].clone()
    answer = selection.windows.score_start - selection.windows.feed_start
    for row, start in zip(targets, answer.tolist(), strict=True):
        row[: start - 1] = -100
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(60):
        model.loss(rows[:, :-1], targets).backward()
        optimizer.step()
        optimizer.zero_grad()
    row = evaluate(model.eval(), corpus, protocol, [120], precision="fp32")[0]["rows"][0]
    assert (row["matches"], row["generated_matches"], row["recall"]) == (4, 4, 1.0)
