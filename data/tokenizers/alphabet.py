"""Tokenizer of a small ASCII alphabet: one token per character, as the tasks use it."""

import numpy as np

from longrun.base.errors import DataError

from .base import SEPARATOR, Tokenizer, byte_alphabet, plain_json


class AlphabetTokenizer(Tokenizer):
    """One token per character of `alphabet`, in its order, from 1; the separator is 0."""

    def __init__(self, alphabet: str):
        letters = byte_alphabet()
        super().__init__(plain_json({letters[ord(c)]: i for i, c in enumerate(alphabet, start=1)} | {SEPARATOR: 0}))
        self.alphabet = alphabet
        self._ids = np.full(256, -1, np.int32)
        self._ids[list(alphabet.encode("ascii"))] = np.arange(1, len(alphabet) + 1)

    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        encoded = [self._ids[np.frombuffer(text.encode(), np.uint8)] for text in texts]
        for text, ids in zip(texts, encoded, strict=True):
            if ids.min(initial=0) < 0:
                unknown = next(c for c in text if c not in self.alphabet)
                raise DataError(
                    f"{unknown!r} is not in this vocabulary, which has one token per character of {self.alphabet}\n"
                    "Use these characters only, or a model that was trained on text."
                )
        return [ids.astype(self.dtype) for ids in encoded]
