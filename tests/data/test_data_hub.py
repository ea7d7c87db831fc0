"""Data sets of the hub, from local folders laid out like theirs; and what is said where there is no network."""

import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from data.corpus import Corpus, prepare
from longrun.base.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
CARD = """---
configs:
- config_name: wikitext-103-raw-v1
  data_files:
  - split: train
    path: wikitext-103-raw-v1/train-*.parquet
  - split: test
    path: wikitext-103-raw-v1/test-*.parquet
- config_name: wikitext-2-raw-v1
  data_files:
  - split: train
    path: nothing/*.parquet
---
"""
NAMES = ("wikitext103", "pg19", "tinystories", "fineweb_edu", "c4")


def article(number: int) -> list[str]:
    """Rows as WikiText has them: a line each, empty ones between, a title with one equals sign."""
    return ["", f" = Title {number} = \n", "", f" text of number {number} .\n", " = = Section = = \n", " more text\n"]


@pytest.fixture
def wikitext(tmp_path) -> Path:
    folder = tmp_path / "wikitext"
    for split, start, count in (("train", 0, 40), ("test", 100, 5)):
        rows = [row for number in range(start, start + count) for row in article(number)]
        path = folder / "wikitext-103-raw-v1" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"text": rows}), path)
    (folder / "README.md").write_text(CARD)
    return folder


def options(tmp_path: Path, name: str, **changes) -> dict:
    values = yaml.safe_load((ROOT / "configs" / "data" / f"{name}.yaml").read_text())
    return {**values, "tokenizer": "byte", "cache": str(tmp_path / "cache"), **changes}


def texts(corpus: Corpus) -> list[str]:
    found = []
    for split in ("train", "valid", "test"):
        tokens, offsets = corpus.tokens(split), corpus.documents(split)
        found += [corpus.tokenizer.decode(tokens[a + 1 : b]) for a, b in pairwise(offsets)]
    return found


def test_rows_of_wikitext_become_articles(wikitext, tmp_path, capsys):
    corpus = prepare(options(tmp_path, "wikitext103", path=str(wikitext), valid_fraction=0.1, test_fraction=0.2))
    found = "".join(sorted(texts(corpus)))
    assert len(texts(corpus)) == 40
    assert all(text.startswith(" = Title ") and "Section" in text for text in texts(corpus))
    assert len(found) == sum(len(row) for number in range(40) for row in article(number))
    assert "all documents" in capsys.readouterr().err
    assert corpus.provenance["options"]["subset"] == "wikitext-103-raw-v1"


def test_a_split_of_its_own_and_a_limit(wikitext, tmp_path):
    whole = options(tmp_path, "wikitext103", path=str(wikitext), valid_fraction=0, test_fraction=1)
    assert len(texts(prepare(whole | {"split": "test"}))) == 5
    few = prepare(whole | {"documents": 7})
    assert sorted(texts(few)) == sorted("".join(article(n)[1:]) for n in range(7))
    downloads = sorted((tmp_path / "cache" / "downloads").iterdir())
    assert [pq.read_metadata(path).num_rows for path in downloads] in ([5, 7], [7, 5])


def test_a_download_is_read_again_without_the_hub(wikitext, tmp_path, capsys):
    chosen = options(tmp_path, "wikitext103", path=str(wikitext), valid_fraction=0.1, test_fraction=0.2)
    first = prepare(chosen)
    for path in wikitext.rglob("*.parquet"):
        path.unlink()
    capsys.readouterr()
    assert prepare(chosen).folder == first.folder
    other = prepare(chosen | {"test_fraction": 0.3})  # prepared anew, from the same download
    assert sorted(texts(other)) == sorted(texts(first))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", NAMES)
def test_the_columns_of_each_data_set_are_read(tmp_path, name):
    """`text` beside columns of other kinds, whatever names they have."""
    chosen = options(tmp_path, name, path=str(tmp_path / "hub"), subset=None, valid_fraction=0.1, test_fraction=0.2)
    assert chosen["documents"] is None or chosen["documents"] >= 100
    (tmp_path / "hub").mkdir()
    rows = [f" = Number {n} = \n and its text" for n in range(60)]
    columns = {chosen["text_field"]: rows, "url": ["u"] * 60, "score": [1.5] * 60, "id": [f"<{n}>" for n in range(60)]}
    pq.write_table(pa.table(columns), tmp_path / "hub" / "train-00000.parquet")
    assert sorted(texts(prepare(chosen))) == sorted(rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "wikitext"}, r"(?s)data.path=wikitext is not the name.*owner.*data=tinystories"),
        ({"path": None}, r"data.path=None is not the name"),
        ({"split": None}, r"data.split is missing"),
        ({"split": "dev"}, r"(?s)data.split=dev could not be read.*data=parquet"),
        ({"subset": "wikitext-3"}, r"data.subset=wikitext-3 data.split=train could not be read"),
        ({"text_field": "body"}, r"(?s)has no field body.*text"),
    ],
)
def test_mistakes_are_answered(wikitext, tmp_path, change, message):
    with pytest.raises(DataError, match=message) as raised:
        prepare(options(tmp_path, "wikitext103", path=str(wikitext)) | change)
    assert len(str(raised.value).splitlines()) <= 3
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_without_a_network_the_answer_comes_within_seconds(tmp_path):
    """An endpoint where nobody listens: the same for a machine with a network and one without."""
    command = [
        sys.executable,
        ROOT / "train.py",
        "data=tinystories",
        f"data.cache={tmp_path}",
        f"root={tmp_path / 'r'}",
    ]
    start = time.perf_counter()
    done = subprocess.run(
        command, env={**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9"}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert "roneneldan/TinyStories is on the Hugging Face hub, which cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr
    assert time.perf_counter() - start < 60  # most of it imports, on a busy machine
