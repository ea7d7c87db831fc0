"""Files of token ids: nanoGPT's and llm.c's layout, with and without the tokenizer that wrote them."""

import json
import math
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml

from data import dataset
from data.corpus import prepare
from data.sources import tokens
from data.sources.registry import create_source as check
from data.tokenizers.bpe import train_bpe
from data.tokenizers.byte import ByteTokenizer
from data.tokenizers.ids import IdTokenizer
from data.tokenizers.load import load_tokenizer
from longrun.base.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
END = 49
RANDOM = np.random.default_rng(0)
DOCUMENTS = [RANDOM.integers(0, END, RANDOM.integers(1, 80)).tolist() for _ in range(60)]


def write(path: Path, documents: list[list[int]], kind: str = "<u2", end: int | None = END, head: bytes = b"") -> Path:
    """As nanoGPT does: the separator behind each document."""
    ids = [number for each in documents for number in [*each, *([] if end is None else [end])]]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + np.array(ids, kind).tobytes())
    return path


def options(path: Path, **changes) -> dict:
    values = yaml.safe_load((ROOT / "configs" / "data" / "tokens.yaml").read_text())
    more = {"vocab_size": 50, "separator_id": END, "valid_fraction": 0.1, "test_fraction": 0.3}
    return values | more | {"path": str(path), "cache": str(path.parent / "cache"), **changes}


def found(corpus, split: str) -> list[list[int]]:
    tokens, offsets = corpus.tokens(split), corpus.documents(split)
    assert all(tokens[start] == corpus.tokenizer.separator for start in offsets[:-1])
    return [tokens[a + 1 : b].tolist() for a, b in pairwise(offsets)]


def everything(corpus) -> list[list[int]]:
    return [document for split in ("train", "valid", "test") for document in found(corpus, split)]


@pytest.fixture
def short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_CHUNK", 17)


@pytest.mark.parametrize("kind", ["uint16", "uint32"])
@pytest.mark.parametrize("chunk", [17, 1 << 22])
def test_documents_are_cut_at_the_separator(kind: str, chunk: int, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tokens, "_CHUNK", chunk)
    path = write(tmp_path / "train.bin", [[], *DOCUMENTS, []], {"uint16": "<u2", "uint32": "<u4"}[kind])
    corpus = prepare(options(path, token_type=kind))
    assert sorted(everything(corpus)) == sorted(DOCUMENTS)
    assert corpus.provenance["split"] == "by document"
    assert corpus.provenance["splits"]["train"]["documents"] > 20
    assert isinstance(corpus.tokenizer, IdTokenizer)
    assert (corpus.tokenizer.vocab_size, corpus.tokenizer.separator) == (50, END)


def test_either_type_and_llm_c_s_header_are_the_same_corpus(tmp_path: Path) -> None:
    head = np.zeros(256, "<i4")
    head[:3] = 20240520, 1, 999
    narrow = prepare(options(write(tmp_path / "a" / "x.bin", DOCUMENTS)))
    wide = prepare(options(write(tmp_path / "b" / "x.bin", DOCUMENTS, "<u4"), token_type="uint32"))
    headed = prepare(options(write(tmp_path / "c" / "x.bin", DOCUMENTS, head=head.tobytes())))
    assert narrow.fingerprint == wide.fingerprint == headed.fingerprint
    assert found(narrow, "test") == found(wide, "test") == found(headed, "test")


def test_without_a_separator_a_file_is_one_document_cut_by_position(tmp_path: Path, short_chunks) -> None:
    ids = [number for each in DOCUMENTS for number in each]
    path = write(tmp_path / "x.bin", [ids], end=None)
    corpus = prepare(options(path, separator_id=None))
    assert corpus.provenance["split"] == "by position"
    assert [number for part in everything(corpus) for number in part] == ids
    assert (corpus.tokenizer.vocab_size, corpus.tokenizer.separator) == (51, 50)  # an id of its own


def test_the_tokenizer_beside_the_file_says_what_ids_are(tmp_path: Path) -> None:
    texts = [f"this is text number {n}, with words\n" * 3 for n in range(40)]
    tokenizer = train_bpe(texts, 300)
    path = write(tmp_path / "x.bin", [ids.tolist() for ids in tokenizer.encode_batch(texts)], end=tokenizer.separator)
    tokenizer.save(tmp_path)
    chosen = options(path, vocab_size=None, separator_id=None)
    corpus = prepare(chosen)
    assert corpus.tokenizer.digest == tokenizer.digest
    assert sorted(tokenizer.decode(ids) for ids in everything(corpus)) == sorted(texts)
    assert sum(c["bytes"] for c in corpus.provenance["splits"].values()) == sum(map(len, texts))
    assert 0 < corpus.tokens_per_byte < 1
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "tokenizer.json").rename(tmp_path / "elsewhere" / "tokenizer.json")
    named = prepare(chosen | {"tokenizer": str(tmp_path / "elsewhere")})
    assert named.fingerprint == corpus.fingerprint
    assert prepare(chosen | {"tokenizer": str(tmp_path / "elsewhere" / "tokenizer.json")}).folder == named.folder


def test_a_model_measures_files_of_its_own_ids_only(tmp_path: Path) -> None:
    path = write(tmp_path / "x.bin", DOCUMENTS)
    trained = prepare(options(path)).tokenizer
    assert dataset.prepare(options(path), tokenizer=trained).fingerprint == prepare(options(path)).fingerprint
    with pytest.raises(DataError, match=r"ids up to 49, and the model has 40 ids"):
        dataset.prepare(options(path), tokenizer=IdTokenizer(40, 39))
    ByteTokenizer().save(tmp_path)
    with pytest.raises(DataError, match=r"the model has another tokenizer"):
        dataset.prepare(options(path), tokenizer=train_bpe(["a b c"], 257))
    (tmp_path / "a.txt").write_text("text " * 999)
    text = yaml.safe_load((ROOT / "configs" / "data" / "text.yaml").read_text()) | {"path": str(tmp_path / "a.txt")}
    with pytest.raises(DataError, match=r"(?s)raw token ids without a tokenizer.*data=tokens"):
        dataset.prepare(text, tokenizer=trained)


def test_ids_without_meaning_are_written_as_numbers(tmp_path: Path) -> None:
    tokenizer = IdTokenizer(50, END)
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert isinstance(again, IdTokenizer)
    assert (again.digest, again.separator, again.vocab_size) == (tokenizer.digest, END, 50)
    assert again.encode(" 7 12\n48 ").tolist() == [7, 12, 48]
    assert again.encode(again.decode([7, 12, 48])).tolist() == [7, 12, 48]
    assert again.token_bytes.sum() == 0
    for text in ("word", "50", "-1", "1.5", "٣"):
        with pytest.raises(DataError, match=r"(?s)is not a token id: this model was trained on ids 0 to 49.*17 4 250"):
            again.encode(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab_size": None}, r"(?s)no tokenizer.json beside it.*data.tokenizer=FOLDER.*data.vocab_size"),
        ({"tokenizer": "byte"}, r"(?s)data.tokenizer=byte makes tokens of text.*data.tokenizer=FOLDER"),
        ({"tokenizer": "no/such"}, r"(?s)data.tokenizer=no/such does not exist"),
        ({"separator_id": 50}, r"(?s)data.separator_id=50 is none of data.vocab_size=50 ids"),
        ({"token_type": "int8"}, r"(?s)data.token_type=int8 is unknown.*uint16, uint32"),
        ({"path": "nowhere.bin"}, r"data.path=nowhere.bin does not exist"),
    ],
    ids=str,
)
def test_bad_options_are_refused(change: dict, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "x.bin", DOCUMENTS)
    with pytest.raises(DataError, match=message):
        check(options(path) | change)


def test_files_that_are_something_else_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.bin", DOCUMENTS)
    with pytest.raises(DataError, match=r"id \d+ at place \d+, and the vocabulary has 20 ids.\nCheck data.token_type"):
        prepare(options(path, vocab_size=20, separator_id=3))
    with pytest.raises(DataError, match=r"(?s)every other id is 0.*data.token_type=uint32"):
        prepare(options(write(tmp_path / "wide.bin", DOCUMENTS, "<u4")))
    (tmp_path / "odd.bin").write_bytes(b"123")
    with pytest.raises(DataError, match=r"odd.bin has 3 bytes, not a multiple of 2"):
        prepare(options(tmp_path / "odd.bin"))
    (tmp_path / "none.bin").write_bytes(b"")
    with pytest.raises(DataError, match=r"no text"):
        prepare(options(tmp_path / "none.bin"))
    assert not [each for each in (tmp_path / "cache").iterdir() if each.is_dir()]


TINY = [
    "model.layers=1", "model.width=16", "model.heads=2", "train.length=16", "train.steps=4", "train.batch=4",
    "train.log_every=1", "train.valid_windows=4", "train.threads=1", "train.precision=fp32", "tracker=off",
    "eval.ratios=[1,2]", "eval.targets=8",
]  # fmt: skip


def test_a_model_is_trained_on_such_a_file_measured_and_sampled(tmp_path: Path) -> None:
    path = write(tmp_path / "x.bin", DOCUMENTS)
    data = [f"data.path={path}", "data.vocab_size=50", f"data.separator_id={END}", f"data.cache={tmp_path / 'cache'}"]
    run("train.py", "data=tokens", *data, "data.test_fraction=0.3", *TINY, f"root={tmp_path / 'runs'}")
    (folder,) = (tmp_path / "runs").glob("*/done")
    rows = [json.loads(line) for line in (folder.parent / "metrics.jsonl").read_text().splitlines()]
    assert all(row["bits_per_byte"] is None for row in rows if "loss" in row)
    (first, _) = json.loads((folder.parent / "eval" / "fixed_targets.json").read_text())["rows"]
    assert first["bits_per_byte"] is None
    assert 0 < first["nll"] < 2 * math.log(50)
    said = run("eval.py", f"run={folder.parent}", "lengths=[16]", "threads=1", f"out={tmp_path / 'short'}")
    assert "ppl" in said
    assert "bits/byte" not in said
    written = run("-m", "scripts.generate", f"run={folder.parent}", "prompt=1 2 3", "length=5", "temperature=0")
    assert written.startswith("1 2 3")
    run("-m", "scripts.report", str(tmp_path / "runs"))
    assert (tmp_path / "runs" / "report.html").stat().st_size > 10_000


def run(*words: str) -> str:
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
