"""Documents out of rows: JSON lines and parquet, good and bad."""

import gzip
import json
import socket
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from test_data_corpus import article, documents, everything, options

from data.corpus import prepare
from longrun.base.errors import DataError

ROWS = [{"id": f"doc{n}", "text": article(n), "meta": n if n % 2 else {"mixed": "types"}} for n in range(40)]


def write_lines(path: Path, rows: list) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def parquet(tmp_path) -> Path:
    path = tmp_path / "rows.parquet"
    table = pyarrow.table({"id": [r["id"] for r in ROWS], "text": [r["text"] for r in ROWS], "n": list(range(40))})
    pyarrow.parquet.write_table(table, path, row_group_size=7)
    return path


def test_json_lines_plain_and_packed_and_parquet_are_one_corpus(tmp_path, parquet):
    lines = write_lines(tmp_path / "rows.jsonl", ROWS)
    packed = tmp_path / "rows.jsonl.gz"
    packed.write_bytes(gzip.compress(lines.read_bytes()))
    corpora = [
        prepare(options(tmp_path, source, path=str(path)))
        for source, path in (("jsonl", lines), ("jsonl", packed), ("parquet", parquet))
    ]
    assert sorted(everything(corpora[0])) == sorted(row["text"] for row in ROWS)
    assert len({corpus.folder for corpus in corpora}) == 3
    assert len({corpus.fingerprint for corpus in corpora}) == 1


def test_without_ids_copies_fall_into_one_split_and_order_does_not_matter(tmp_path):
    texts = [article(n) for n in range(60)]
    first = prepare(
        options(tmp_path, "jsonl", path=str(write_lines(tmp_path / "a.jsonl", [{"text": t} for t in texts])))
    )
    doubled = [{"text": t} for t in reversed(texts + texts)]
    second = prepare(options(tmp_path, "jsonl", path=str(write_lines(tmp_path / "b.jsonl", doubled))))
    for split in ("train", "valid", "test"):
        assert set(documents(first, split)) == set(documents(second, split))


def test_a_folder_of_json_lines_and_another_field(tmp_path):
    (tmp_path / "rows" / "deep").mkdir(parents=True)
    write_lines(tmp_path / "rows" / "a.jsonl", [{"body": r["text"]} for r in ROWS[:25]])
    write_lines(tmp_path / "rows" / "deep" / "b.jsonl", [{"body": r["text"]} for r in ROWS[25:]])
    corpus = prepare(options(tmp_path, "jsonl", path=str(tmp_path / "rows"), text_field="body"))
    assert sorted(everything(corpus)) == sorted(row["text"] for row in ROWS)


def test_blank_lines_nulls_and_lone_surrogates_are_survived(tmp_path):
    odd = ["", '{"text": null}', '{"text": "  "}', '{"text": "half \\ud83d a pair"}']
    corpus = prepare(options(tmp_path, "jsonl", path=str(write_lines(tmp_path / "rows.jsonl", [*odd, *ROWS]))))
    assert corpus.provenance["notes"] == {
        "documents with lone surrogates replaced": 1,
        "empty documents skipped": 2,
    }
    assert "half ? a pair" in everything(corpus)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "cut', r"(?s)rows.jsonl:42 is not JSON.*one object"),
        ("[1, 2]", r"rows.jsonl:42 holds a list"),
        (
            '{"body": "x", "url": "y"}',
            r"(?s)rows.jsonl:42 has no field text \(data.text_field\); it has body, url",
        ),
        ('{"text": 7}', r"(?s)rows.jsonl:42: field text .* holds a int"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path, line, message):
    path = write_lines(tmp_path / "rows.jsonl", [*ROWS, "", line, *ROWS])
    with pytest.raises(DataError, match=message):
        prepare(options(tmp_path, "jsonl", path=str(path)))
    assert list((tmp_path / "cache").iterdir()) == []


def test_bad_parquet_is_refused(tmp_path, parquet):
    with pytest.raises(DataError, match=r"(?s)no field body .*it has id, n, text"):
        prepare(options(tmp_path, "parquet", path=str(parquet), text_field="body"))
    with pytest.raises(DataError, match=r"(?s)field n .*holds a int"):
        prepare(options(tmp_path, "parquet", path=str(parquet), text_field="n"))
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(parquet.read_bytes()[:200])
    with pytest.raises(DataError, match=r"data.path=.*broken.parquet cannot be read as parquet"):
        prepare(options(tmp_path, "parquet", path=str(broken)))


def test_a_truncated_gzip_is_refused(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, ROWS)).encode())[:-40])
    with pytest.raises(DataError, match=r"(?s)Reading data.path=.*rows.jsonl.gz failed"):
        prepare(options(tmp_path, "jsonl", path=str(path)))


def test_local_parquet_asks_nothing_of_the_network(tmp_path, parquet, monkeypatch):
    asked = []

    def refuse(*address, **_):
        asked.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    prepare(options(tmp_path, "parquet", path=str(parquet)))
    assert asked == []
