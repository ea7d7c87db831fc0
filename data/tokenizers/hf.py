"""Tokenizers of Hugging Face models: any tokenizer.json, byte-level or not.

Bits per byte need the number of bytes of text per token. It is exact for byte-level vocabularies and for
SentencePiece's, up to the space that many of those put in front of a text. With a normalizer that changes the text
(NFC, lower case) the bytes of the changed text are counted. Markers of other vocabularies that split words are resolved
as far as a single token allows.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from longrun.base.errors import DataError

from .base import BYTE_OF_LETTER, CONFIG, FILE, Tokenizer

SPACE = "\u2581"  # SentencePiece's mark for a space


class HFTokenizer(Tokenizer):
    """A tokenizer described by `text`, a tokenizer.json. Documents begin with the token `separator`, such as <s>.

    config: further content of tokenizer_config.json.  decode(encode(text)) is the text as normalized by the tokenizer.
    Raises ValueError if `tokenizers` cannot read the text, or if there is no such token.
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
        """Return the text in one part: safe places to cut depend on the word rule, which may be any."""
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


def load_hf_tokenizer(path: Path, text: str) -> HFTokenizer:
    """Load a tokenizer.json that Longrun did not write. path: the file.  text: its content. Raises DataError."""
    try:
        added = json.loads(text)["added_tokens"]
        special = {token["id"]: token["content"] for token in added if token.get("special")}
        name = separator_name(path, {token["id"]: token["content"] for token in added}, list(special.values()))
        return HFTokenizer(text, name, _json(path.parent / CONFIG))
    except DataError:
        raise
    except Exception as error:  # `tokenizers` raises nothing more specific
        raise DataError(
            f"{path} cannot be used: {error}.\nDownload it again, or use a {FILE} that Longrun wrote."
        ) from error


def separator_name(path: Path, added: dict[int, str], special: list[str]) -> str:
    """Find the token that begins a text: bos of the first file beside `path` that names one, else eos, which ends the
    text before it. If no file names any: the only special token. Raises DataError if there is none."""
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
        f"{path}: no file names the token that begins a text.\n"
        f'Write it into {CONFIG}: {{"bos_token": "<s>"}}. Special tokens: {", ".join(added.values()) or "none"}'
    )


def _pieces(vocabulary: dict[str, int], size: int, description: dict) -> list[bytes]:
    """Return the text of each id, b"" for special tokens, which do not occur in text."""
    added = {token["content"]: token.get("special", False) for token in description["added_tokens"]}
    bytes_of = _bytes_function(description)
    pieces = [b""] * size
    for token, number in vocabulary.items():
        if token not in added:
            pieces[number] = bytes_of(token)
        elif not added[token]:
            pieces[number] = token.encode()
    return pieces


def _bytes_function(description: dict):
    """Return the function from a token of this vocabulary to the bytes it stands for."""
    model = description["model"]
    kinds = set(_types([description.get(key) for key in ("pre_tokenizer", "decoder")]))
    prefix, suffix = model.get("continuing_subword_prefix") or "", model.get("end_of_word_suffix") or ""

    def byte_level(token: str) -> bytes:
        return bytes(BYTE_OF_LETTER[c] for c in token) if BYTE_OF_LETTER.keys() >= set(token) else token.encode()

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

    return byte_level if "ByteLevel" in kinds else with_marks


def _types(part: Any) -> Iterator[str]:
    """Yield every "type" in a part of tokenizer.json, sequences included."""
    if isinstance(part, dict):
        yield from ([part["type"]] if isinstance(part.get("type"), str) else [])
        part = list(part.values())
    for inner in part if isinstance(part, list) else []:
        yield from _types(inner)


def _json(path: Path) -> dict:
    """Read a JSON object; {} if the file is missing or holds something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
