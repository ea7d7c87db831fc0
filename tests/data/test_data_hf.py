"""Tokenizers of other people's models: what begins a text, what a token stands for, and what is kept on disk."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hf_tokenizers import TEXT, byte_level, folder, sentence_piece, unigram
from test_data_corpus import options
from tokenizers import models, pre_tokenizers

from data.corpus import prepare
from data.sources.registry import create_source as check
from data.tokenizers.base import Tokenizer
from data.tokenizers.hf import HFTokenizer
from data.tokenizers.load import load_tokenizer
from longrun.base.errors import DataError


def bytes_of(tokenizer: Tokenizer, text: str) -> int:
    return int(tokenizer.token_bytes[tokenizer.encode(text)].sum())


def test_byte_level_vocabularies_are_exact(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(folder(tmp_path, byte_level(), tokenizer_config={"bos_token": "<|endoftext|>"}))
    assert isinstance(tokenizer, HFTokenizer)
    for text in (TEXT, "a   b", "", "\x00\n", "<|endoftext|> is a name here"):
        assert bytes_of(tokenizer, text) == len(text.encode())
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert tokenizer.separator not in tokenizer.encode(text)
        assert b"".join(tokenizer.pieces[i] for i in tokenizer.encode(text)) == text.encode()
    assert tokenizer.token_bytes[tokenizer.separator] == 0
    assert tokenizer.vocab_size == byte_level().get_vocab_size()


def test_sentence_piece_is_exact_but_for_the_space_in_front(tmp_path: Path) -> None:
    files = {"tokenizer_config": {"bos_token": {"content": "<s>"}}}
    with_prefix = load_tokenizer(folder(tmp_path / "a", sentence_piece(), **files))
    assert bytes_of(with_prefix, TEXT) == len(TEXT.encode()) + 1
    without = load_tokenizer(folder(tmp_path / "b", sentence_piece(prefix=False), **files))
    assert bytes_of(without, TEXT) == len(TEXT.encode())
    assert without.decode(without.encode(TEXT)) == TEXT
    assert without.pieces[without.encode(" the")[0]] == b" the"
    assert with_prefix.separator == 1


def test_unigram_and_word_piece(tmp_path: Path) -> None:
    known = "the cat sat on the mat"
    tokenizer = load_tokenizer(folder(tmp_path / "u", unigram(), tokenizer_config={"bos_token": "<s>"}))
    assert bytes_of(tokenizer, known) == len(known.encode()) + 1
    vocabulary = {"[CLS]": 0, "the": 1, "cat": 2, "##s": 3, "[UNK]": 4}
    library = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    pieces = load_tokenizer(folder(tmp_path / "w", library, tokenizer_config={"bos_token": "[CLS]"}))
    assert bytes_of(pieces, "the cats") == len(" the cats")


def test_a_long_text_is_not_cut(tmp_path: Path) -> None:
    """Each piece would get a space in front."""
    tokenizer = load_tokenizer(folder(tmp_path, sentence_piece(), tokenizer_config={"bos_token": "<s>"}))
    text = "the cat " * 100_000
    assert list(tokenizer.cut([text[:1000], text[1000:]])) == [text]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"tokenizer_config": {"bos_token": "<s>", "eos_token": "</s>"}}, "<s>"),
        ({"tokenizer_config": {"bos_token": None, "eos_token": "</s>"}}, "</s>"),
        ({"special_tokens_map": {"bos_token": {"content": "<s>"}}}, "<s>"),
        ({"tokenizer_config": {"eos_token": "</s>"}, "config": {"bos_token_id": 1, "eos_token_id": 2}}, "<s>"),
        ({"config": {"eos_token_id": [2, 1]}}, "</s>"),
    ],
    ids=str,
)
def test_what_begins_a_text(files: dict, expected: str, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(folder(tmp_path, sentence_piece(), **files))
    assert tokenizer.separator == {"<s>": 1, "</s>": 2}[expected]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"tokenizer.json: no file names the token that begins a text.\n.*<s>, </s>"),
        ({"config": {"bos_token_id": 40}}, r"no file names"),  # a letter, not a special token
        ({"tokenizer_config": {"bos_token": "<begin>"}}, r"<begin> is not in the vocabulary"),
    ],
    ids=str,
)
def test_without_a_beginning_it_is_refused(files: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        load_tokenizer(folder(tmp_path, sentence_piece(), **files))


def test_the_only_special_token_begins_a_text(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(folder(tmp_path, byte_level()))
    assert tokenizer.text[:1] == "{"
    assert tokenizer.decode([tokenizer.separator]) == "<|endoftext|>"


@pytest.mark.parametrize("named", ["folder", "file", "other"])
def test_a_corpus_names_its_tokenizer(named: str, tmp_path: Path) -> None:
    """data.tokenizer=FOLDER, or a file by any name; another content is another corpus."""
    place = folder(tmp_path / "t", byte_level())
    if named == "other":
        (place / "tokenizer.json").rename(place / "mine.json")
    path = {"folder": place, "file": place / "tokenizer.json", "other": place / "mine.json"}[named]
    (tmp_path / "a.txt").write_text(TEXT * 20, encoding="utf-8")
    given = options(tmp_path, path=str(tmp_path / "a.txt"), tokenizer=str(path))
    corpus = prepare(given, progress=False)
    assert corpus.tokenizer.digest == load_tokenizer(path).digest
    assert corpus.tokenizer.name == "<|endoftext|>"
    assert sum(split["bytes"] for split in corpus.provenance["splits"].values()) == 20 * len(TEXT.encode())
    assert prepare(given, progress=False).folder == corpus.folder
    assert prepare(given | {"tokenizer": "byte"}, progress=False).folder != corpus.folder


def test_a_tokenizer_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    for given in ("gpt2", "no/such/folder", str(tmp_path)):
        with pytest.raises(
            DataError, match=r"(?s)data.tokenizer=.* is neither bpe, byte, character nor a tokenizer.json"
        ):
            check(options(tmp_path, path=str(tmp_path / "a.txt"), tokenizer=given))
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(DataError, match=r"tokenizer.json is not a byte-level BPE"):
        prepare(options(tmp_path, path=str(tmp_path / "a.txt"), tokenizer=str(tmp_path)))
    assert not (tmp_path / "cache").exists()


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"added_tokens": [], "model": {"type": "Magic"}}')
    (tmp_path / "tokenizer_config.json").write_text('{"bos_token": "<s>"}')
    with pytest.raises(DataError, match=r"tokenizer.json cannot be used"):
        load_tokenizer(tmp_path)


def test_saved_loaded_and_exported_it_is_the_same(tmp_path: Path) -> None:
    about = {"bos_token": None, "eos_token": "</s>", "chat_template": "x", "auto_map": {"AutoTokenizer": "evil.T"}}
    first = load_tokenizer(folder(tmp_path / "a", sentence_piece(), tokenizer_config=about))
    (tmp_path / "b").mkdir()
    first.export(tmp_path / "b")
    second = load_tokenizer(tmp_path / "b")
    assert (second.digest, second.separator, second.text) == (first.digest, first.separator, first.text)
    kept = json.loads((tmp_path / "b" / "tokenizer_config.json").read_text())
    assert kept == {"bos_token": "</s>", "eos_token": "</s>", "chat_template": "x"}
    other = load_tokenizer(folder(tmp_path / "c", sentence_piece(), tokenizer_config={"bos_token": "<s>"}))
    assert other.digest != first.digest  # another separator makes another corpus


def test_a_corpus_is_written_with_it(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.mkdir()
    for i in range(3):
        (text / f"{i}.txt").write_text(TEXT * (i + 1), encoding="utf-8")
    tokenizer = load_tokenizer(folder(tmp_path / "t", byte_level(), tokenizer_config={"eos_token": "<|endoftext|>"}))
    options = {
        "name": "tiny", "source": "text", "path": str(text), "subset": None, "split": None, "documents": None,
        "text_field": "text", "separator": None, "pattern": "**/*.txt", "tokenizer": "bpe", "vocab_size": 300,
        "valid_fraction": 0.0, "test_fraction": 1.0, "cache": str(tmp_path / "cache"),
    }  # fmt: skip
    corpus = prepare(options, tokenizer=tokenizer, progress=False)
    assert corpus.tokenizer.digest == tokenizer.digest
    tokens, offsets = np.asarray(corpus.tokens("test")), corpus.documents("test")
    assert (tokens[offsets[:-1]] == tokenizer.separator).all()
    texts = [tokenizer.decode(tokens[a + 1 : b]) for a, b in pairwise(offsets)]
    assert sorted(texts) == sorted(TEXT * (i + 1) for i in range(3))
    assert prepare(options, tokenizer=tokenizer, progress=False).folder == corpus.folder
