"""Tokenizers: text to token ids and back without loss, and the interface by which a new corpus makes one.

`Tokenizer` works on UTF-8 bytes, so any text can be encoded and decode(encode(text)) == text. A token stands for a
fixed byte string, which makes bits per byte exact. It is described by the JSON of Hugging Face `tokenizers`, so an
exported model carries a file that other tools read. That library is imported only when it is needed.

A tokenizer that can be chosen by name is one file here, `class Bpe(TokenizerTrainer)` in bpe.py. If it has options,
their values are in configs/tokenizer/<name>.yaml.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

SEPARATOR = "<|doc|>"
FILE, CONFIG = "tokenizer.json", "tokenizer_config.json"
SMALLEST_VOCABULARY = 257  # 256 bytes and the separator
_PIECE = 1 << 18  # characters


@dataclass(frozen=True)
class TokenizerTrainer:
    """Makes a tokenizer for a new corpus. Its dataclass fields are its options.

    A field that `CorpusOptions` has too (vocab_size) is set by data.vocab_size. All others come from
    configs/tokenizer/<name>.yaml, and from the command line by 'data.tokenizer={name: NAME, OPTION: VALUE}'.
    """

    reads_text: ClassVar[bool] = True  # `train` needs text of the training split

    def check(self) -> None:
        """Raise DataError for options that do not fit."""

    def train(self, texts: Iterable[str | Iterable[str]]) -> "Tokenizer":
        """Make the tokenizer from training documents, of which a long one may come in pieces.

        Equal texts must give equal tokenizers. The result is described by a tokenizer.json: a `Tokenizer` for
        byte-level BPE, `hf.HFTokenizer` for anything else.
        """
        raise NotImplementedError


class Tokenizer:
    """Byte-level BPE, described by `text`, the JSON of `tokenizers`.

    vocab_size: number of ids.  separator: id in front of every document.  token_bytes: int32 (vocab_size,), bytes of
    text per id, 0 for the separator.  digest: hexadecimal hash of the JSON.  has_text: ids stand for text.
    """

    has_text: ClassVar[bool] = True

    def __init__(self, text: str):
        self.text = text
        self.digest = hashlib.sha256(text.encode()).hexdigest()
        description = json.loads(text)
        vocabulary = description["model"]["vocab"]
        (self.separator,) = (t["id"] for t in description["added_tokens"] if t["content"] == SEPARATOR)
        self.vocab_size = len(vocabulary.keys() | {SEPARATOR})
        self.pieces = [b""] * self.vocab_size
        for token, number in vocabulary.items():
            if number != self.separator:
                self.pieces[number] = self.bytes_of(token)
        self.token_bytes = np.array([len(piece) for piece in self.pieces], np.int32)
        self.dtype = np.dtype("<u2" if self.vocab_size <= 1 << 16 else "<u4")

    def bytes_of(self, token: str) -> bytes:
        """Return the bytes that a token of the vocabulary stands for."""
        return bytes(BYTE_OF_LETTER[letter] for letter in token)

    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        """Return the ids of each text, without separators. A separator's name inside a text is ordinary text."""
        encoded = self._encoder.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, self.dtype) for encoding in encoded]

    def encode(self, text: str) -> np.ndarray:
        return self.encode_batch([text])[0]

    def decode(self, ids) -> str:
        """Return the text of the ids; a character cut at an end becomes U+FFFD, a separator its name."""
        name = SEPARATOR.encode()
        parts = (name if i == self.separator else self.pieces[i] for i in np.asarray(ids).tolist())
        return b"".join(parts).decode("utf-8", errors="replace")

    def cut(self, pieces: Iterable[str]) -> Iterator[str]:
        """Cut the text of `pieces` where the joined encodings of the parts equal the encoding of the text."""
        return cut(pieces)

    def save(self, folder: Path) -> None:
        (Path(folder) / FILE).write_text(self.text, encoding="utf-8")

    def export(self, folder: Path) -> None:
        """Save for `transformers`, with a template that puts the separator in front of a text, as in our documents."""
        description, name = json.loads(self.text), {"SpecialToken": {"id": SEPARATOR, "type_id": 0}}
        texts = [{"Sequence": {"id": letter, "type_id": number}} for number, letter in enumerate("AB")]
        description["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [name, texts[0]],
            "pair": [name, *texts],
            "special_tokens": {SEPARATOR: {"id": SEPARATOR, "ids": [self.separator], "tokens": [SEPARATOR]}},
        }
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": SEPARATOR, "eos_token": SEPARATOR}
        (Path(folder) / FILE).write_text(json.dumps(description), encoding="utf-8")
        (Path(folder) / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")

    @cached_property
    def _encoder(self):
        return self._library()

    def _library(self):
        import tokenizers

        encoder = tokenizers.Tokenizer.from_str(self.text)
        encoder.encode_special_tokens = True  # not part of the JSON: otherwise "<|doc|>" in a text is the separator
        return encoder


def byte_alphabet() -> list[str]:
    """Return the printable letter for each byte in byte-level BPE (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    spare = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]


BYTE_OF_LETTER = {letter: byte for byte, letter in enumerate(byte_alphabet())}


def plain_json(vocabulary: dict[str, int], merges: Sequence[list[str]] = ()) -> str:
    """Describe a byte-level BPE with this vocabulary and these merges in the JSON of `tokenizers`."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    unused = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")
    model = {
        "type": "BPE",
        **dict.fromkeys(unused),
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
    }
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": vocabulary[SEPARATOR], "content": SEPARATOR, **flags, "special": True}],
            "normalizer": None,
            "pre_tokenizer": level,
            "post_processor": None,
            "decoder": level,
            "model": {**model, "vocab": vocabulary, "merges": list(merges)},
        }
    )


def cut(pieces: Iterable[str], size: int = _PIECE) -> Iterator[str]:
    """Cut the text of `pieces` into parts of about `size` characters whose joined encodings equal that of the text.

    `tokenizers` needs some fifty bytes per character while it encodes, so a long document is encoded in parts. GPT-2's
    word rule never joins white space to the character in front of it, so it has a boundary at each cut. Text without
    such a place is not cut. Only white space that all regular expressions agree on is used: Python's \\s is wider than
    that of `tokenizers`.
    """
    text = ""
    for piece in pieces:
        text, start = text + piece, 0
        while match := _BOUNDARY.search(text, start + size):
            yield text[start : match.end()]
            start = match.end()
        text = text[start:]
    yield text


_BOUNDARY = re.compile(r"\S(?=[ \t\r\n])")
