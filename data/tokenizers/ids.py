"""Tokenizer for raw token ids: token files that come without the tokenizer that wrote them."""

import json
from collections.abc import Iterable

import numpy as np

from longrun.base.errors import DataError

from .base import SEPARATOR, Tokenizer

MODEL = "WordLevel"  # model type in tokenizer.json, by which `load_tokenizer` recognizes one


class IdTokenizer(Tokenizer):
    """Ids 0 ... vocab_size - 1, written as decimal numbers. They stand for no bytes: bits per byte are unknown."""

    has_text = False

    def __init__(self, vocab_size: int, separator: int):
        names = {str(i): i for i in range(vocab_size) if i != separator} | {SEPARATOR: separator}
        super().__init__(_json(names))
        self.pieces = [b"" if i == separator else f"{i} ".encode() for i in range(vocab_size)]
        self.token_bytes = np.zeros(vocab_size, np.int32)

    @classmethod
    def from_json(cls, text: str) -> "IdTokenizer":
        """Read the content of a tokenizer.json."""
        vocabulary = json.loads(text)["model"]["vocab"]
        return cls(len(vocabulary), vocabulary[SEPARATOR])

    def cut(self, pieces: Iterable[str]) -> Iterable[str]:  # type: ignore[override]
        yield "".join(pieces)

    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        return [np.array([self._id(word) for word in text.split()], self.dtype) for text in texts]

    def _id(self, word: str) -> int:
        number = int(word) if word.isascii() and word.isdecimal() else -1
        if 0 <= number < self.vocab_size:
            return number
        raise DataError(
            f"{word!r} is not a token id: this model was trained on ids 0 to {self.vocab_size - 1} without a "
            "tokenizer.\nWrite ids, such as 17 4 250, or use a model that was trained with data.tokenizer=FOLDER."
        )

    def bytes_of(self, token: str) -> bytes:
        return token.encode()


def _json(names: dict[str, int]) -> str:
    added = {"id": names[SEPARATOR], "content": SEPARATOR, "special": True}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{**added, **flags}],
            "normalizer": None,
            "pre_tokenizer": {"type": "WhitespaceSplit"},
            "post_processor": None,
            "decoder": None,
            "model": {"type": MODEL, "vocab": names, "unk_token": SEPARATOR},
        }
    )
