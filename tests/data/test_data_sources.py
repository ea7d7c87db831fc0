"""Source trees, long texts and bytes that are no text: what becomes a document, what is refused, what is said."""

import random
import re
from itertools import pairwise
from pathlib import Path

import pytest
from test_data_corpus import article, documents, everything, options
from test_data_rows import ROWS, write_lines

from data import utf8
from data.corpus import prepare
from data.import_warnings import ImportWarnings
from data.sources import text
from data.sources.code import Code
from data.sources.registry import create_source as check
from data.sources.stdlib import Stdlib
from longrun.base.errors import DataError

MANY = {"valid_fraction": 0.2, "test_fraction": 0.3}


# ---- source trees


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files = {f"src/part{n % 3}/file{n}.py": f"def f{n}():\n    return {n}\n" for n in range(20)}
    files |= {"src/a.rs": "fn main() {}\n", "web/b.ts": "let x = 1\n", "README.md": "# no code\n", "data.json": "{}\n"}
    files |= {"node_modules/x/c.js": "copied()\n", ".git/hooks/d.py": "hidden\n", "src/__pycache__/e.py": "cached\n"}
    files |= {"src/test/f.py": "assert True\n"}
    for name, content in files.items():
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text(content)
    return tmp_path / "tree"


def names(source: Code) -> set[str]:
    return {source.relative(path) for path in source.files}


def test_a_source_tree_is_its_programs(tree: Path, tmp_path: Path) -> None:
    corpus = prepare(options(tmp_path, "code", path=str(tree), **MANY))
    found = names(Code({"path": str(tree), "pattern": None}))
    assert {"src/a.rs", "web/b.ts", "src/test/f.py", "src/part0/file0.py"} <= found
    assert len(found) == 23
    assert not any(re.search(r"README|json|node_modules|\.git|__pycache__", name) for name in found)
    assert sorted(everything(corpus)) == sorted((tree / name).read_text() for name in found)
    assert corpus.provenance["options"]["name"] == "code"


@pytest.mark.parametrize(
    ("pattern", "found"),
    [("**/*.ts", {"web/b.ts"}), ("*.md", {"README.md"}), ("**/*.js", set()), ("src/*", {"src/a.rs"})],
)
def test_a_pattern_says_which_files_of_a_tree(tree: Path, pattern: str, found: set[str]) -> None:
    assert names(Code({"path": str(tree), "pattern": pattern})) == found
    if not found:
        with pytest.raises(DataError, match=r"(?s)No file in .*has \*\*/\*.js.*Set data.pattern"):
            Code({"source": "code", "path": str(tree), "pattern": pattern}).check()


def test_files_that_are_no_text_are_left_out_and_counted(tree: Path, tmp_path: Path, capsys) -> None:
    (tree / "src" / "binary.c").write_bytes(b"int x\0\1\2")
    (tree / "src" / "latin.py").write_bytes("# coding: latin-1\nname = 'Zoë'\n".encode("latin-1"))
    (tree / "src" / "other.c").write_bytes(b'char *name = "Zo\xeb";\n')
    (tree / "src" / "long.sql").write_bytes(b"x" * ((1 << 24) + 1))
    corpus = prepare(options(tmp_path, "code", path=str(tree), **MANY))
    assert corpus.provenance["notes"] == {"files of more than 16 MB skipped": 1, "undecodable files skipped": 2}
    assert corpus.provenance["first"]["undecodable files skipped"] == "src/binary.c"
    assert "undecodable files skipped: 2, the first is src/binary.c" in capsys.readouterr().err
    assert any("Zoë" in document for document in everything(corpus))
    with pytest.raises(DataError, match=r"src/other.c, byte 16: 0xeb is not UTF-8"):
        prepare(options(tmp_path, "code", path=str(tree), invalid_utf8="refuse", **MANY))


def test_the_standard_library_is_such_a_tree() -> None:
    """`data=stdlib` is `data=code` pointed at the interpreter, less its tests: one piece of code reads both."""
    library = Stdlib({"pattern": "**/*.txt"})
    same = Code({"path": str(library.root), "pattern": "**/*.py"})
    others = names(same) - names(library)
    assert len(names(library)) > 300
    assert names(library) <= names(same)
    assert all(re.search(r"(^|/)(test|tests|idle_test|config-[^/]*)/|_sysconfigdata", name) for name in others)
    assert Stdlib.read is Code.read


# ---- text that is not held


@pytest.fixture
def short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utf8, "PIECE", 1000)
    monkeypatch.setattr(text, "LONG", 3000)
    monkeypatch.setattr(text, "REACH", 50)


BOOK = "".join(article(n) + "№ é\U0001f600" for n in range(40))


@pytest.mark.parametrize("tokenizer", ["byte", "bpe", "character"])
def test_a_long_file_is_the_same_corpus_read_in_pieces(
    tokenizer: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "book.txt").write_text("\ufeff" + BOOK, encoding="utf-8")
    chosen = options(tmp_path, path=str(tmp_path / "book.txt"), tokenizer=tokenizer, vocab_size=400)
    whole = prepare(chosen)
    request.getfixturevalue("short_pieces")
    pieces = prepare(chosen, cache=tmp_path / "pieces")
    assert pieces.fingerprint == whole.fingerprint
    assert pieces.tokenizer.digest == whole.tokenizer.digest
    for split in ("train", "valid", "test"):
        assert documents(pieces, split) == documents(whole, split)
        assert pieces.tokens(split).tolist() == whole.tokens(split).tolist()
        assert pieces.provenance["splits"][split] == whole.provenance["splits"][split]
    assert "".join(everything(pieces)) == BOOK


@pytest.mark.parametrize("separator", ["^= ", r"\n\n+", "(?<=ab)c", "x*", "[ab]{2,40}", "$", "no such"])
def test_cuts_do_not_depend_on_the_pieces(separator: str, short_pieces) -> None:
    rng = random.Random(0)
    whole = "".join(rng.choice(["= a\n", "\n", "ab", "c", "x", "b" * 30]) for _ in range(3000))
    pattern = re.compile(separator, re.MULTILINE)
    starts = sorted({0, *(match.start() for match in pattern.finditer(whole)), len(whole)})
    expected = [whole[a:b] for a, b in pairwise(starts)]
    for size in (7, 64, 1000, len(whole)):
        pieces = [whole[i : i + size] for i in range(0, len(whole), size)]
        assert list(text.split_text(pattern, pieces)) == expected, size


# ---- bytes that are no UTF-8


@pytest.mark.parametrize("size", [3, 4, 5, 1000])
def test_text_is_decoded_as_if_at_once(size: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(utf8, "PIECE", size)
    for raw in (
        b"",
        b"\xef\xbb\xbfmark",
        "né \U0001f600 x".encode(),
        b"a\xff\xc3(\xe2\x82",
        b"\xef\xbb",
        b"\xc3\xa9" * 9,
    ):
        (tmp_path / "x").write_bytes(raw)
        with (tmp_path / "x").open("rb") as file:
            found = "".join(utf8.decode_file(file, "x", "replace", ImportWarnings()))
        assert found == raw.decode("utf-8-sig", "replace")


@pytest.mark.parametrize("size", [3, 4, 1000])
@pytest.mark.parametrize(
    ("raw", "place"),
    [(b"good \xff", 5), (b"\xef\xbb\xbfgo\xc3(", 5), (b"12345678\xe2\x82", 8), ("é".encode() * 9 + b"\x80", 18)],
)
def test_the_first_bad_byte_is_named(size: int, raw: bytes, place: int, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(utf8, "PIECE", size)
    (tmp_path / "x").write_bytes(raw)
    notes = ImportWarnings()
    with (
        (tmp_path / "x").open("rb") as file,
        pytest.raises(DataError, match=f"^x, byte {place}: 0x{raw[place]:02x} is"),
    ):
        list(utf8.decode_file(file, "x", "refuse", notes))
    with (tmp_path / "x").open("rb") as file:
        list(utf8.decode_file(file, "x", "replace", notes))
    assert notes.lines() == [f"files with invalid UTF-8 replaced: 1, the first is x, byte {place}"]


def test_invalid_utf8_is_refused_where_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    for n in range(12):
        (tmp_path / "text" / f"{n:02}.txt").write_text(article(n), encoding="utf-8")
    (tmp_path / "text" / "07.txt").write_bytes(article(7).encode()[:100] + b"\xfe")
    with pytest.raises(DataError, match=r"(?s)^07.txt, byte 100: 0xfe is not UTF-8.*invalid_utf8=replace"):
        prepare(options(tmp_path, path=str(tmp_path / "text"), invalid_utf8="refuse", **MANY))
    assert list((tmp_path / "cache").iterdir()) == []
    with pytest.raises(DataError, match=r"data.invalid_utf8=ignore is unknown"):
        check(options(tmp_path, path=str(tmp_path), invalid_utf8="ignore"))


# ---- bad lines


BAD = ['{"text": "cut', "[1, 2]", '{"body": "x"}', '{"text": 7}', "[" * 100_000]


def test_bad_lines_are_left_out_and_counted_where_that_is_asked_for(tmp_path: Path, capsys) -> None:
    path = write_lines(tmp_path / "rows.jsonl", [*ROWS[:20], *BAD, *ROWS[20:]])
    corpus = prepare(options(tmp_path, "jsonl", path=str(path), bad_lines="skip"))
    assert sorted(everything(corpus)) == sorted(row["text"] for row in ROWS)
    assert corpus.provenance["notes"] == {"lines that are no rows skipped": 5}
    assert corpus.provenance["first"] == {"lines that are no rows skipped": f"{path}:21"}
    assert f"lines that are no rows skipped: 5, the first is {path}:21" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"(?s)rows.jsonl:21 is not JSON.*Or skip such lines: data.bad_lines=skip"):
        prepare(options(tmp_path, "jsonl", path=str(path)))


def test_if_every_line_is_bad_it_is_the_option_that_is_wrong(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", ROWS)
    with pytest.raises(DataError, match=r"rows.jsonl:1 has no field body \(data.text_field\); it has id, meta, text"):
        prepare(options(tmp_path, "jsonl", path=str(path), bad_lines="skip", text_field="body"))


def test_invalid_utf8_in_a_line(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", ROWS)
    path.write_bytes(path.read_bytes() + b'{"text": "caf\xe9 au lait"}\n')
    corpus = prepare(options(tmp_path, "jsonl", path=str(path)))
    assert corpus.provenance["first"] == {
        "lines with invalid UTF-8 replaced": f"{path}:41, byte 13 of the line",
    }
    assert "caf\ufffd au lait" in everything(corpus)
    for lines in ("refuse", "skip"):
        with pytest.raises(DataError, match=r"rows.jsonl:41, byte 13 of the line: 0xe9 is not UTF-8"):
            prepare(options(tmp_path, "jsonl", path=str(path), invalid_utf8="refuse", bad_lines=lines))
