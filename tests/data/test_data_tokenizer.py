"""Tokenizers: no text is lost, every token knows its bytes, and files are what other tools read."""

import json

import numpy as np
import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data.tokenizers.base import SEPARATOR, Tokenizer, cut
from data.tokenizers.bpe import train_bpe
from data.tokenizers.byte import ByteTokenizer
from data.tokenizers.character import train_characters
from data.tokenizers.load import load_tokenizer
from longrun.base.errors import DataError

SAMPLE = [
    "def length(text):\n    return len(text)  # the text's length, doesn't count <|doc|>\n" * 20,
    "Der Wörterbuchschlüssel, 你好, naïve café; x = 10_000 + 2**16\r\n\t\tüber " * 20,
    "what!\x1c\x1f ends? " * 20,  # white space for Python, not for the word rule
]
# Any text, and text rich in what word rules care about.
texts = st.text(st.characters(exclude_categories=["Cs"])) | st.text("ab 1'st\n\t \r\u2028\x1c\x85ü<|doc>.", max_size=60)


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return train_bpe(SAMPLE, 320)


@pytest.fixture(scope="module", params=["byte", "bpe", "character"])
def tokenizer(request, bpe) -> Tokenizer:
    return {"byte": ByteTokenizer(), "bpe": bpe, "character": train_characters(SAMPLE)}[request.param]


@settings(max_examples=150, deadline=None)
@given(st.lists(texts, max_size=4))
@example(["", "\x00", SEPARATOR, f"a{SEPARATOR} b", "\ufeff", "\U0001f600"])
def test_no_text_is_lost_and_bytes_add_up(tokenizer, batch):
    encoded = tokenizer.encode_batch(batch)
    assert [tokenizer.decode(ids) for ids in encoded] == batch
    for text, ids in zip(batch, encoded, strict=True):
        assert ids.dtype == np.uint16
        assert tokenizer.separator not in ids
        assert tokenizer.token_bytes[ids].sum() == len(text.encode())


@settings(max_examples=150, deadline=None)
@given(texts, st.integers(1, 12))
@example("it's\x1cx !\x1c y\x85 z\u2028 \u3000a", 1)
def test_pieces_of_a_document_encode_like_the_whole(bpe, text, size):
    pieces = list(cut([text], size))
    assert "".join(pieces) == text
    joined = np.concatenate(bpe.encode_batch(pieces))
    assert joined.tolist() == bpe.encode(text).tolist()


@settings(max_examples=100, deadline=None)
@given(st.lists(texts, max_size=5), st.integers(1, 12))
def test_a_text_in_pieces_is_cut_into_the_same_encoding(bpe, pieces, size):
    found = list(cut(pieces, size))
    assert "".join(found) == "".join(pieces)
    assert np.concatenate(bpe.encode_batch(found)).tolist() == bpe.encode("".join(pieces)).tolist()


def test_characters_are_tokens():
    text = "né 你好 \U0001f600 né 你好 \U0001f600 x"
    tokenizer = train_characters([text, iter([text[:5], "ж"])])
    assert [tokenizer.pieces[i].decode() for i in tokenizer.encode(text)] == list(text)
    assert tokenizer.encode("ж").tolist() == list("ж".encode())  # once is not enough: written as its bytes
    assert tokenizer.vocab_size == 257 + sum(len(c.encode()) - 1 for c in "é你好\U0001f600")
    assert train_characters(["ascii\n" * 9]).vocab_size == 257
    assert train_characters([text]).digest == train_characters([text[:7], text[7:]]).digest
    library = tokenizers.Tokenizer.from_str(tokenizer.text)
    assert library.encode(text).ids == tokenizer.encode(text).tolist()


def test_long_text_is_cut_and_text_without_a_place_is_not():
    assert list(cut(["ab cd  ef"], 1)) == ["ab", " cd", "  ef"]
    assert list(cut(["x" * 50], 4)) == ["x" * 50]


def test_each_token_stands_for_the_bytes_that_the_library_decodes(bpe):
    library = tokenizers.Tokenizer.from_str(bpe.text)
    assert bpe.vocab_size == library.get_vocab_size() == 320
    assert bpe.token_bytes.shape == (320,)
    assert bpe.token_bytes.dtype == np.int32
    assert bpe.token_bytes[bpe.separator] == 0
    merged = [library.decode([i]) for i in range(320) if bpe.token_bytes[i] > 1]
    assert len(merged) == 320 - 257
    for i in range(320):
        text = library.decode([i])
        if "\ufffd" not in text and i != bpe.separator:
            assert bpe.token_bytes[i] == len(text.encode())
            assert bpe.decode([i]) == text


def test_separators_show_and_cut_characters_do_not_raise(tokenizer):
    ids = tokenizer.encode("né")
    assert tokenizer.decode([tokenizer.separator, *ids]) == f"{SEPARATOR}né"
    byte = ByteTokenizer()
    assert byte.decode(byte.encode("né")[:-1]) == "n\ufffd"


def test_training_is_reproducible_and_depends_on_the_text(bpe):
    again = train_bpe(SAMPLE, 320)
    assert again.digest == bpe.digest
    assert train_bpe(SAMPLE[:1], 320).digest != bpe.digest


def test_little_text_gives_a_smaller_vocabulary():
    assert train_bpe(["abcdefg"], 1000).vocab_size == 257
    assert train_bpe(["aba aba"], 1000).vocab_size < 270


def test_saved_and_loaded(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert type(loaded) is type(tokenizer)
    assert loaded.digest == tokenizer.digest
    assert (loaded.vocab_size, loaded.separator) == (tokenizer.vocab_size, tokenizer.separator)
    assert loaded.encode(SAMPLE[1]).tolist() == tokenizer.encode(SAMPLE[1]).tolist()


def test_the_byte_tokenizer_is_what_its_file_says():
    byte = ByteTokenizer()
    assert (byte.vocab_size, byte.separator) == (257, 256)
    assert byte.token_bytes.tolist() == [1] * 256 + [0]
    library = tokenizers.Tokenizer.from_str(byte.text)
    assert library.encode(SAMPLE[1]).ids == byte.encode(SAMPLE[1]).tolist() == list(SAMPLE[1].encode())
    assert library.decode(list(SAMPLE[1].encode())) == SAMPLE[1]


@pytest.mark.parametrize(
    "content",
    [
        None,
        "not json",
        "{}",
        "[]",
        '{"model": {"vocab": {}}, "added_tokens": []}',
        '{"model": {"vocab": {"a": 5}}, "added_tokens": [{"id": 0, "content": "<|doc|>"}]}',
    ],
)
def test_files_that_are_no_tokenizer_are_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(DataError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_of_another_kind_is_refused(tmp_path):
    described = json.loads(ByteTokenizer().text)
    described["model"]["vocab"]["\u4f60"] = 257  # a letter that is no byte
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    with pytest.raises(DataError, match="byte-level"):
        load_tokenizer(tmp_path)
