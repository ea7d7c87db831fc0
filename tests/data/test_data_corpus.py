"""Preparing a corpus: what is split how, what is cached, and what is refused."""

import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import MISSING, fields
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml

from data.corpus import Corpus, default_cache, prepare
from data.options import TextOptions
from data.sources.registry import create_source as check
from data.tokenizers.bpe import train_bpe
from longrun.base.errors import DataError
from longrun.base.locks import exclusive_lock

ROOT = Path(__file__).resolve().parents[2]
ORDER = (  # of the options in a YAML file
    "name", "source", "path", "subset", "split", "documents", "text_field", "separator", "pattern", "bad_lines",
    "invalid_utf8", "token_type", "separator_id", "tokenizer", "vocab_size", "valid_fraction", "test_fraction", "cache",
)  # fmt: skip
WORDS = ["rotary", "attention", "position", "length", "token", "window", "bias", "kernel"]


def article(number: int, words: int = 60) -> str:
    random = np.random.default_rng(number)
    return f"= Title {number} =\n" + " ".join(random.choice(WORDS, words)) + f" №{number}.\n"


@pytest.fixture
def folder(tmp_path) -> Path:
    """Sixty documents in text files of several folders."""
    for number in range(60):
        path = tmp_path / "text" / f"part{number % 3}" / f"{number:02}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(article(number), encoding="utf-8")
    return tmp_path / "text"


def options(tmp_path: Path, source: str = "text", **changes) -> dict:
    values = yaml.safe_load((ROOT / "configs" / "data" / f"{source}.yaml").read_text())
    return {**values, "tokenizer": "byte", "cache": str(tmp_path / "cache"), **changes}


def documents(corpus: Corpus, split: str) -> list[str]:
    tokens, offsets = corpus.tokens(split), corpus.documents(split)
    assert all(tokens[start] == corpus.tokenizer.separator for start in offsets[:-1])
    return [corpus.tokenizer.decode(tokens[a + 1 : b]) for a, b in pairwise(offsets)]


def everything(corpus: Corpus) -> list[str]:
    return [text for split in ("train", "valid", "test") for text in documents(corpus, split)]


@pytest.mark.parametrize("name", ["byte", "bpe"])
def test_every_document_is_in_one_split_and_comes_back_unchanged(folder, tmp_path, name):
    corpus = prepare(options(tmp_path, path=str(folder), tokenizer=name, vocab_size=300))
    assert sorted(everything(corpus)) == sorted(article(number) for number in range(60))
    assert corpus.provenance["split"] == "by document"
    for split, counts in corpus.provenance["splits"].items():
        tokens = corpus.tokens(split)
        assert counts["tokens"] == len(tokens) == corpus.documents(split)[-1]
        assert counts["bytes"] == sum(len(text.encode()) for text in documents(corpus, split))
        assert counts["bytes"] == corpus.tokenizer.token_bytes[tokens].sum()
        assert counts["documents"] == len(corpus.documents(split)) - 1 > 0
        assert tokens.dtype == np.uint16
        assert not tokens.flags.writeable
    assert corpus.provenance["splits"]["train"]["documents"] > 40
    assert corpus.provenance["tokenizer"]["digest"] == corpus.tokenizer.digest


def test_bpe_is_trained_on_the_training_split_alone(folder, tmp_path):
    corpus = prepare(options(tmp_path, path=str(folder), tokenizer="bpe", vocab_size=300))
    assert train_bpe(documents(corpus, "train"), 300).digest == corpus.tokenizer.digest


def test_a_new_document_moves_no_other_one(folder, tmp_path):
    before = prepare(options(tmp_path, path=str(folder)))
    (folder / "part0" / "new.txt").write_text("something new " * 20)
    after = prepare(options(tmp_path, path=str(folder)))
    assert after.folder != before.folder
    assert after.fingerprint != before.fingerprint
    for split in ("train", "valid", "test"):
        assert set(documents(before, split)) <= set(documents(after, split))


def test_the_test_split_does_not_depend_on_the_validation_fraction(folder, tmp_path):
    first = prepare(options(tmp_path, path=str(folder), test_fraction=0.3))
    second = prepare(options(tmp_path, path=str(folder), test_fraction=0.3, valid_fraction=0.4))
    assert documents(first, "test") == documents(second, "test")
    assert first.fingerprint != second.fingerprint


def test_one_text_is_split_by_position(tmp_path):
    text = "".join(article(number) for number in range(30))
    (tmp_path / "book.txt").write_bytes(text.replace("\n", "\r\n").encode())
    corpus = prepare(options(tmp_path, path=str(tmp_path / "book.txt")))
    assert "".join(everything(corpus)) == text.replace("\n", "\r\n")
    assert corpus.provenance["split"] == "by position"
    assert "fewer than 10" in corpus.provenance["split_rule"]["reason"]
    shares = [corpus.provenance["splits"][split]["bytes"] / len(text) for split in ("train", "valid", "test")]
    assert shares == pytest.approx([0.85, 0.05, 0.10], abs=0.03)


def test_documents_are_split_by_position_when_a_split_would_be_empty(tmp_path):
    for number in range(12):
        (tmp_path / f"{number}.txt").write_text(article(number), encoding="utf-8")
    corpus = prepare(options(tmp_path, path=str(tmp_path), valid_fraction=0.001, test_fraction=0.1, pattern="*.txt"))
    assert corpus.provenance["split"] == "by position"
    assert "valid" in corpus.provenance["split_rule"]["reason"]
    assert sorted(map(len, documents(corpus, "train"))) == sorted(round(len(article(n)) * 0.899) for n in range(12))


def test_a_long_document_is_encoded_in_pieces_and_stays_one(tmp_path):
    texts = [article(number, 100_000) for number in range(4)]  # longer than a piece
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.txt").write_text(text, encoding="utf-8")
    chosen = options(tmp_path, path=str(tmp_path), valid_fraction=0, test_fraction=0, tokenizer="bpe", vocab_size=300)
    corpus = prepare(chosen)
    assert len(corpus.documents("train")) == 5
    first = corpus.tokens("train")[1 : corpus.documents("train")[1]]
    assert first.tolist() == corpus.tokenizer.encode(texts[0]).tolist()
    assert documents(corpus, "train") == texts


def test_a_fraction_of_zero_leaves_a_split_out(folder, tmp_path):
    corpus = prepare(options(tmp_path, path=str(folder), valid_fraction=0, test_fraction=1))
    assert len(documents(corpus, "test")) == 60
    assert len(corpus.tokens("train")) == len(corpus.tokens("valid")) == 0
    assert corpus.documents("train").tolist() == [0]
    with pytest.raises(DataError, match="tokenizer=bpe is trained on the training split"):
        prepare(options(tmp_path, path=str(folder), valid_fraction=0, test_fraction=1, tokenizer="bpe"))


def test_a_given_tokenizer_is_used_and_has_a_cache_entry_of_its_own(folder, tmp_path):
    own = train_bpe(["position position length"], 270)
    corpus = prepare(options(tmp_path, path=str(folder)), tokenizer=own)
    assert corpus.tokenizer.digest == own.digest
    plain = prepare(options(tmp_path, path=str(folder)))
    assert plain.folder != corpus.folder
    assert plain.fingerprint == corpus.fingerprint  # the same text, split the same way
    assert sorted(everything(corpus)) == sorted(everything(plain))


def test_a_separator_cuts_a_file_into_documents(tmp_path):
    parts = [article(number) for number in range(40)]
    (tmp_path / "wiki.txt").write_text(" \n" + "".join(parts), encoding="utf-8")
    corpus = prepare(options(tmp_path, path=str(tmp_path / "wiki.txt"), separator="^= "))
    assert sorted(everything(corpus)) == sorted(parts)
    assert corpus.provenance["notes"] == {"empty documents skipped": 1}


def test_invalid_utf8_is_replaced_and_counted(folder, tmp_path):
    (folder / "part0" / "00.txt").write_bytes(b"good \xff bad " * 10)
    corpus = prepare(options(tmp_path, path=str(folder)))
    assert corpus.provenance["notes"] == {"files with invalid UTF-8 replaced": 1}
    assert "good \ufffd bad " * 10 in everything(corpus)


def test_the_second_time_comes_from_the_cache(folder, tmp_path):
    chosen = options(tmp_path, path=str(folder))
    first = prepare(chosen)
    stamp = (first.folder / "train.tokens").stat().st_mtime_ns
    start = time.perf_counter()
    second = prepare(chosen | {"name": "another", "vocab_size": 999})  # neither matters to a byte corpus
    assert time.perf_counter() - start < 0.5
    assert second.folder == first.folder
    assert (first.provenance["options"]["name"], second.provenance["options"]["name"]) == ("text", "another")
    assert (second.folder / "train.tokens").stat().st_mtime_ns == stamp
    assert os.listdir(tmp_path / "cache") == [first.folder.name]  # nothing temporary stays


@pytest.mark.parametrize(
    "change", [{"valid_fraction": 0.2}, {"test_fraction": 0.2}, {"separator": "Title"}, {"tokenizer": "bpe"}]
)
def test_every_option_that_matters_changes_the_corpus(folder, tmp_path, change):
    assert (
        prepare(options(tmp_path, path=str(folder))).folder
        != prepare(options(tmp_path, path=str(folder), **change)).folder
    )


def test_a_changed_file_is_prepared_again(folder, tmp_path):
    chosen = options(tmp_path, path=str(folder))
    first = prepare(chosen)
    path = folder / "part1" / "01.txt"
    path.write_text(path.read_text(encoding="utf-8").replace("Title", "Other"), encoding="utf-8")  # the same size
    second = prepare(chosen)
    assert second.fingerprint != first.fingerprint
    os.utime(path)  # only touched: prepared again, and found to be the same text
    assert prepare(chosen).fingerprint == second.fingerprint


@pytest.mark.parametrize("damage", ["truncated", "missing", "provenance"])
def test_a_damaged_cache_entry_is_replaced(folder, tmp_path, damage):
    chosen = options(tmp_path, path=str(folder))
    first = prepare(chosen)
    texts = everything(first)
    file = first.folder / ("provenance.json" if damage == "provenance" else "train.tokens")
    file.unlink() if damage == "missing" else file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError):
        Corpus(first.folder)
    assert everything(prepare(chosen)) == texts
    assert os.listdir(tmp_path / "cache") == [first.folder.name]


PREPARE = """
import json, sys
from data.corpus import prepare
corpus = prepare(json.loads(sys.argv[1]))
print(corpus.folder, corpus.fingerprint, len(corpus.tokens("train")), corpus.tokenizer.digest)
assert "torch" not in sys.modules
"""


def start(chosen: dict) -> subprocess.Popen:
    command = [sys.executable, "-c", PREPARE, json.dumps(chosen)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_prepare_at_once(folder, tmp_path):
    chosen = options(tmp_path, path=str(folder), tokenizer="bpe", vocab_size=300)
    processes = [start(chosen) for _ in range(2)]
    results = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], results
    assert results[0][0] == results[1][0]
    said = sorted(result[1] for result in results)
    assert said[0] == ""  # no progress bar off a terminal
    assert said[1] == "" or said[1].startswith("waiting for process ")  # unless one was over before the other began
    assert os.listdir(tmp_path / "cache") == [prepare(chosen).folder.name]


def test_who_finds_a_preparation_under_way_waits_for_it(folder, tmp_path, capsys):
    chosen = options(tmp_path, path=str(folder))
    name = prepare(chosen, cache=tmp_path / "cache").folder.name  # the name is all that is wanted of it
    shutil.rmtree(tmp_path / "cache" / name)
    lock = tmp_path / "cache" / f"{name}.lock"
    with ThreadPoolExecutor() as pool:
        with exclusive_lock(lock, lambda holder: pytest.fail("nobody else is here")):
            waiting = pool.submit(prepare, chosen)
            time.sleep(0.5)
            assert not waiting.done()
            assert os.listdir(tmp_path / "cache") == [lock.name]
        assert len(everything(waiting.result(20))) == 60
    assert f"waiting for process {os.getpid()} on" in capsys.readouterr().err
    assert os.listdir(tmp_path / "cache") == [name]


def test_the_lock_of_a_killed_process_holds_nobody_up(folder, tmp_path, capsys):
    chosen = options(tmp_path, path=str(folder))
    name = prepare(chosen).folder.name
    shutil.rmtree(tmp_path / "cache" / name)
    (tmp_path / "cache" / f"{name}.lock").write_text("process 1 on elsewhere")
    assert len(everything(prepare(chosen))) == 60
    assert capsys.readouterr().err == ""
    assert os.listdir(tmp_path / "cache") == [name]


def test_documents_limits_how_much_is_read(folder, tmp_path):
    first = prepare(options(tmp_path, path=str(folder), documents=20))
    names = sorted(folder.rglob("*.txt"))[:20]
    assert sorted(everything(first)) == sorted(path.read_text(encoding="utf-8") for path in names)
    assert prepare(options(tmp_path, path=str(folder))).folder != first.folder


def test_a_process_that_is_killed_leaves_no_corpus(folder, tmp_path):
    big = folder / "part0" / "big.txt"
    big.write_text("".join(article(number, 2000) for number in range(150)), encoding="utf-8")
    chosen = options(tmp_path, path=str(folder), tokenizer="bpe", vocab_size=400)
    process = start(chosen)
    cache = tmp_path / "cache"
    while not list(cache.glob("*.tmp-*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    process.kill()
    process.communicate()
    left = list(cache.iterdir())
    assert sorted(path.suffix == ".lock" for path in left) == [False, True]
    left = [path for path in left if ".tmp-" in path.name]
    for path in [*left[0].iterdir(), left[0]]:
        os.utime(path, (0, 0))  # as if it were killed long ago
    corpus = prepare(chosen)
    assert os.listdir(cache) == [corpus.folder.name]


def test_the_standard_library_is_a_corpus(tmp_path):
    chosen = options(tmp_path, "stdlib")
    corpus = prepare(chosen)
    assert corpus.provenance["split"] == "by document"
    counts = corpus.provenance["splits"]
    assert 5e6 < sum(count["bytes"] for count in counts.values()) < 40e6
    assert 300 < sum(count["documents"] for count in counts.values()) < 3000
    assert np.diff(corpus.documents("test")).max() > 50_000
    source = Path(json.__file__).read_text(encoding="utf-8")
    assert source in everything(corpus)
    assert not any("class TestJSONTest" in text for text in everything(corpus))
    again = prepare(chosen, cache=tmp_path / "elsewhere")
    assert again.fingerprint == corpus.fingerprint
    start = time.perf_counter()
    prepare(chosen)
    assert time.perf_counter() - start < 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "web"}, r"(?s)data.source=web: there is no data/sources/web.py.*code, hub, jsonl"),
        ({"tokenizer": "word"}, r"(?s)data.tokenizer=word.*bpe, byte"),
        ({"path": None}, r"(?s)data.path is empty.*Set data.path"),
        ({"path": "no/such/file"}, r"(?s)data.path=no/such/file does not exist.*Set it"),
        ({"pattern": "*.md"}, r"(?s)matches data.pattern=\*\.md"),
        ({"pattern": ""}, r"(?s)data.pattern='' is not a pattern"),
        ({"pattern": "/x/*"}, r"(?s)data.pattern='/x/\*' is not a pattern"),
        ({"separator": "("}, r"(?s)data.separator=\( is not a regular expression"),
        ({"tokenizer": "bpe", "vocab_size": 256}, r"(?s)data.vocab_size=256.*257"),
        ({"valid_fraction": -0.1}, r"data.valid_fraction=-0.1"),
        ({"valid_fraction": 0.5, "test_fraction": 0.6}, r"data.test_fraction=0.6"),
        ({"test_fraction": float("nan")}, r"data.test_fraction=nan"),
        ({"vocab": 3}, r"(?s)data.vocab=3 is not an option.*vocab_size"),
        ({"test_fraction": None}, r"data.test_fraction is missing"),
    ],
)
def test_bad_options_are_refused_before_anything_is_read(folder, tmp_path, change, message):
    chosen = options(tmp_path, path=str(folder)) | change
    for refuse in (check, prepare):
        with pytest.raises(DataError, match=message) as raised:
            refuse(chosen)
        assert 2 <= len(str(raised.value).splitlines()) <= 3
    assert not (tmp_path / "cache").exists()


def test_empty_and_tiny_corpora_are_refused(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(" \n ")
    with pytest.raises(DataError, match="no text"):
        prepare(options(tmp_path, path=str(path)))
    path.write_text("abc")
    with pytest.raises(DataError, match=r"(?s)too little text for a (valid|test) split"):
        prepare(options(tmp_path, path=str(path)))
    assert os.listdir(tmp_path / "cache") == []


def test_a_cache_that_cannot_be_written_is_refused(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"(?s)data.cache=.*file.*Set data.cache"):
        prepare(options(tmp_path, path=str(folder), cache=str(tmp_path / "file" / "cache")))


def test_an_unknown_split_is_refused(folder, tmp_path):
    corpus = prepare(options(tmp_path, path=str(folder)))
    with pytest.raises(DataError, match="split=dev"):
        corpus.tokens("dev")


def test_the_cache_is_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "longrun"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache().is_relative_to(Path.home())


@pytest.mark.parametrize("name", ["stdlib", "code", "text", "jsonl", "parquet", "tokens"])
def test_each_config_names_every_option(name):
    values = yaml.safe_load((ROOT / "configs" / "data" / f"{name}.yaml").read_text())
    later = {item.name for item in fields(TextOptions) if item.default is not MISSING}
    assert {item.name for item in fields(TextOptions)} - later <= values.keys()
    assert list(values) == [key for key in ORDER if key in values]
    assert values["name"] == values["source"] == name


def test_the_package_starts_without_heavy_libraries():
    code = (
        "import sys, longrun.base.errors, data.corpus, data.windows\n"
        "print([m for m in ('torch', 'datasets', 'tokenizers', 'rich', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
