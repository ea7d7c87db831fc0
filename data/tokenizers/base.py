"""Tokenizers: text to token ids and back, without loss.

Both tokenizers work on UTF-8 bytes, so any text can be encoded and decode(encode(text)) == text. A token
stands for a fixed byte string, which makes bits per byte exact. Both are described by the JSON of Hugging
Face `tokenizers`; an exported model therefore carries a file that other tools read. That library is imported
when it is needed.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from longrun.base.errors import DataError

SEPARATOR = "<|doc|>"
FILE, CONFIG = "tokenizer.json", "tokenizer_config.json"
SMALLEST_VOCABULARY = 257  # 256 bytes and the separator
_PIECE = 1 << 18  # characters


class Tokenizer:
    """Byte-level BPE, as described by `text`, the JSON of `tokenizers`.

    vocab_size: how many ids there are. separator: the id in front of every document. token_bytes: int32
    (vocab_size,), bytes of text that each id stands for, 0 for the separator. digest: hexadecimal hash of the
    JSON.
    """

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
        """What a token of the vocabulary stands for."""
        return bytes(_LETTERS[letter] for letter in token)

    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        """Ids of each text, without separators. The separator's name inside a text is ordinary text."""
        encoded = self._encoder.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, self.dtype) for encoding in encoded]

    def encode(self, text: str) -> np.ndarray:
        return self.encode_batch([text])[0]

    def decode(self, ids) -> str:
        """Text of the ids; a character that is cut at an end becomes U+FFFD, a separator shows its name."""
        name = SEPARATOR.encode()
        parts = (name if i == self.separator else self.pieces[i] for i in np.asarray(ids).tolist())
        return b"".join(parts).decode("utf-8", errors="replace")

    def cut(self, pieces: Iterable[str]) -> Iterator[str]:
        """The text of `pieces` in others, whose encodings, joined, are the encoding of the whole."""
        return cut(pieces)

    def save(self, folder: Path) -> None:
        (Path(folder) / FILE).write_text(self.text, encoding="utf-8")

    def export(self, folder: Path) -> None:
        """Write it so that transformers begins a text with the separator, as our documents begin."""
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

    @staticmethod
    def load(place: Path) -> "Tokenizer":
        """The tokenizer that `save` wrote, of whichever kind, or one that comes with somebody else's model.

        place: a folder with a tokenizer.json, or such a file under any name.
        """
        path = Path(place) / FILE if Path(place).is_dir() else Path(place)
        try:
            return _read(path, path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            hint = f"Name a folder that holds a {FILE}."
            if (path.parent / "tokenizer.model").is_file():
                hint = "Convert its tokenizer.model: AutoTokenizer.from_pretrained(...).save_pretrained(FOLDER)"
            raise DataError(f"{path} does not exist.\n{hint}") from None
        except DataError:
            raise
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise DataError(
                f"{path} is not a byte-level BPE tokenizer with a {SEPARATOR} token ({error!r}).\n"
                f"Use a {FILE} that Longrun wrote."
            ) from error

    @cached_property
    def _encoder(self):
        return self._library()

    def _library(self):
        import tokenizers

        encoder = tokenizers.Tokenizer.from_str(self.text)
        encoder.encode_special_tokens = True  # not part of the JSON: otherwise "<|doc|>" in a text is the separator
        return encoder


def _read(path: Path, text: str) -> Tokenizer:
    """The tokenizer that the JSON `text`, from the file `path`, describes."""
    if text == _byte_json():
        return ByteTokenizer()
    description = json.loads(text)
    if all(token["content"] != SEPARATOR for token in description["added_tokens"]):
        from . import hf

        return hf.load(path, text)
    if description["model"]["type"] == "WordLevel":
        from .ids import NumberTokenizer

        return NumberTokenizer.of(text)
    tokenizer = Tokenizer(text)
    if tokenizer.vocab_size >= SMALLEST_VOCABULARY:
        return tokenizer
    return CharacterTokenizer(b"".join(tokenizer.pieces).decode("ascii"))


class ByteTokenizer(Tokenizer):
    """One token a byte: id = byte, separator = 256."""

    def __init__(self):
        super().__init__(_byte_json())

    def cut(self, pieces: Iterable[str]) -> Iterator[str]:
        return iter(pieces)

    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        return [np.frombuffer(text.encode(), np.uint8).astype(self.dtype) for text in texts]


class CharacterTokenizer(Tokenizer):
    """One token a character of a small alphabet of ASCII: the separator is 0, the characters follow in their order."""

    def __init__(self, alphabet: str):
        letters = _alphabet()
        super().__init__(plain_json({letters[ord(c)]: i for i, c in enumerate(alphabet, start=1)} | {SEPARATOR: 0}))
        self.alphabet = alphabet
        self._ids = np.full(256, -1, np.int32)
        self._ids[list(alphabet.encode("ascii"))] = np.arange(1, len(alphabet) + 1)

    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        encoded = [self._ids[np.frombuffer(text.encode(), np.uint8)] for text in texts]
        for text, ids in zip(texts, encoded, strict=True):
            if ids.min(initial=0) < 0:
                strange = next(c for c in text if c not in self.alphabet)
                raise DataError(
                    f"{strange!r} is not in this vocabulary, which has one token for each of {self.alphabet}\n"
                    "Use these characters only, or a model that was trained on text."
                )
        return [ids.astype(self.dtype) for ids in encoded]


def train_bpe(texts: Iterable[str | Iterable[str]], vocab_size: int) -> Tokenizer:
    """Byte-level BPE of at most `vocab_size` tokens, separator included; equal texts give equal tokenizers.

    A long text may come in pieces. Fewer tokens come out where no further pair occurs twice. Text is cut into words by
    GPT-2's rule.
    """
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, pre_tokenizers, trainers

    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[SEPARATOR],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    library.encode_special_tokens = True
    whole = ([text] if isinstance(text, str) else text for text in texts)
    library.train_from_iterator((piece for pieces in whole for piece in cut(pieces)), trainer)
    return Tokenizer(library.to_str())


def _alphabet() -> list[str]:
    """The printable letter that stands for each byte in byte-level BPE (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    spare = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]


_LETTERS = {letter: byte for byte, letter in enumerate(_alphabet())}


def byte_letters() -> dict[str, int]:
    """The byte that each letter of a byte-level vocabulary stands for."""
    return _LETTERS


def _byte_json() -> str:
    return plain_json({letter: byte for byte, letter in enumerate(_alphabet())} | {SEPARATOR: 256})


def plain_json(vocabulary: dict[str, int], merges: Sequence[list[str]] = ()) -> str:
    """A vocabulary of bytes, and of what `merges` makes of them, as a BPE that `tokenizers` reads too."""
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
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
            "added_tokens": [{"id": vocabulary[SEPARATOR], "content": SEPARATOR, **plain, "special": True}],
            "normalizer": None,
            "pre_tokenizer": level,
            "post_processor": None,
            "decoder": level,
            "model": {**model, "vocab": vocabulary, "merges": list(merges)},
        }
    )


def cut(pieces: Iterable[str], size: int = _PIECE) -> Iterator[str]:
    """The text of `pieces` in pieces of about `size` characters whose encodings, joined, are the encoding of the text.

    `tokenizers` needs some fifty bytes for each character while it encodes, so a long document goes piece by
    piece. GPT-2's rule for words never joins white space to what stands in front of it, so a cut between the
    two is one that the rule itself makes. Text without such a place stays whole. Only white space on which
    regular expressions agree is used: Python's \\s is wider than that of `tokenizers`.
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
