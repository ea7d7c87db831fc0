"""Tokenizers that others made: whatever tokenizer.json describes, byte-level or not.

Bits per byte need to know how many bytes of text a token stands for. That is exact for byte-level vocabularies and for
SentencePiece's, up to the space that many of those put in front of a text; a normaliser that changes the text (NFC,
lower case) makes it the bytes of the changed text. Markers of vocabularies that split words otherwise are resolved as
far as one token tells.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from longrun.base.errors import DataError

from .base import CONFIG, FILE, Tokenizer, byte_letters

SPACE = "\u2581"  # SentencePiece's mark for it


class ForeignTokenizer(Tokenizer):
    """`text` is a tokenizer.json, `separator` the name of the token that begins a document, such as <s>.

    config: what tokenizer_config.json shall say besides. decode(encode(text)) is the text as the vocabulary has it.
    Raises ValueError if `tokenizers` cannot read the text, or has no such token.
    """

    def __init__(self, text: str, separator: str, config: dict[str, Any] | None = None):
        self.text, self.name = text, separator
        self.config = {k: v for k, v in (config or {}).items() if k != "auto_map"} | {"bos_token": separator}
        self.digest = hashlib.sha256(f"{text}\0{separator}".encode()).hexdigest()
        vocabulary = self._encoder.get_vocab(with_added_tokens=True)
        if separator not in vocabulary:
            raise ValueError(f"{separator} is not in the vocabulary")
        self.separator = vocabulary[separator]
        self.vocab_size = max(vocabulary.values()) + 1
        self.dtype = np.dtype("<u2" if self.vocab_size <= 1 << 16 else "<u4")
        self.pieces = _pieces(vocabulary, self.vocab_size, json.loads(text))
        self.pieces[self.separator] = b""
        self.token_bytes = np.array([len(piece) for piece in self.pieces], np.int32)

    def decode(self, ids) -> str:
        return self._encoder.decode(np.asarray(ids).tolist(), skip_special_tokens=False)

    def cut(self, pieces: Iterable[str]) -> Iterator[str]:
        """The text whole: where it may be cut depends on the word rule, which is anybody's."""
        yield "".join(pieces)

    def save(self, folder: Path) -> None:
        super().save(folder)
        (Path(folder) / CONFIG).write_text(json.dumps(self.config, indent=1) + "\n", encoding="utf-8")

    def export(self, folder: Path) -> None:
        self.save(folder)

    def _library(self):
        encoder = super()._library()
        encoder.no_truncation()
        encoder.no_padding()
        return encoder


def load(path: Path, text: str) -> ForeignTokenizer:
    """A tokenizer.json that Longrun did not write: the file `path`, whose content is `text`. Raises DataError."""
    try:
        added = json.loads(text)["added_tokens"]
        special = {token["id"]: token["content"] for token in added if token.get("special")}
        name = separator(path, {token["id"]: token["content"] for token in added}, list(special.values()))
        return ForeignTokenizer(text, name, _json(path.parent / CONFIG))
    except DataError:
        raise
    except Exception as error:  # `tokenizers` raises nothing more particular
        raise DataError(
            f"{path} cannot be used: {error}.\nDownload it again, or use a {FILE} that Longrun wrote."
        ) from error


def separator(path: Path, added: dict[int, str], special: list[str]) -> str:
    """The token that begins a text: bos of whichever file beside `path` names one, else eos, which ended the text
    before it; the only special token, where no file names any."""
    folder = path.parent
    numbers = _json(folder / "config.json")
    for kind in ("bos", "eos"):
        for file in (CONFIG, "special_tokens_map.json"):
            token = _json(folder / file).get(f"{kind}_token")
            token = token.get("content") if isinstance(token, dict) else token
            if token:
                return token
        number = numbers.get(f"{kind}_token_id")
        number = number[0] if isinstance(number, list) and number else number
        if isinstance(number, int) and number in added:
            return added[number]
    if len(special) == 1:
        return special[0]
    raise DataError(
        f"{path}: nothing names the token that begins a text.\n"
        f'Write it into {CONFIG}: {{"bos_token": "<s>"}}. There are: {", ".join(added.values()) or "no special tokens"}'
    )


def _pieces(vocabulary: dict[str, int], size: int, description: dict) -> list[bytes]:
    """The text that each id stands for, b"" for special tokens: they are not written in a text."""
    added = {token["content"]: token.get("special", False) for token in description["added_tokens"]}
    stands_for = _reading(description)
    pieces = [b""] * size
    for token, number in vocabulary.items():
        if token not in added:
            pieces[number] = stands_for(token)
        elif not added[token]:
            pieces[number] = token.encode()
    return pieces


def _reading(description: dict):
    """How this vocabulary writes text: a function from a token to the bytes it stands for."""
    model = description["model"]
    kinds = set(_types([description.get(key) for key in ("pre_tokenizer", "decoder")]))
    prefix, suffix = model.get("continuing_subword_prefix") or "", model.get("end_of_word_suffix") or ""

    def byte_level(token: str) -> bytes:
        return bytes(letters[c] for c in token) if all(c in letters for c in token) else token.encode()

    def with_marks(token: str) -> bytes:
        if model.get("byte_fallback") and re.fullmatch(r"<0x[0-9A-Fa-f]{2}>", token):
            return bytes.fromhex(token[3:5])
        if suffix and token.endswith(suffix):
            token = token.removesuffix(suffix) + " "
        if model.get("type") == "WordPiece":  # the space in front of a word belongs to no token
            token = token.removeprefix(prefix) if token.startswith(prefix) else f" {token}"
        elif prefix:
            token = token.removeprefix(prefix)
        return token.replace(SPACE, " ").encode()

    letters = byte_letters()
    return byte_level if "ByteLevel" in kinds else with_marks


def _types(part: Any) -> Iterator[str]:
    """Every "type" in a part of tokenizer.json, sequences included."""
    if isinstance(part, dict):
        yield from ([part["type"]] if isinstance(part.get("type"), str) else [])
        part = list(part.values())
    for inner in part if isinstance(part, list) else []:
        yield from _types(inner)


def _json(path: Path) -> dict:
    """A mapping, {} if the file is not there or is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
