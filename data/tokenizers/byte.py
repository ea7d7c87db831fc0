"""Byte tokenizer: one token per byte of UTF-8."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .base import SEPARATOR, Tokenizer, TokenizerTrainer, byte_alphabet, plain_json


class ByteTokenizer(Tokenizer):
    """id = byte, separator = 256."""

    def __init__(self):
        super().__init__(byte_json())

    def cut(self, pieces: Iterable[str]) -> Iterator[str]:
        return iter(pieces)

    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        return [np.frombuffer(text.encode(), np.uint8).astype(self.dtype) for text in texts]


@dataclass(frozen=True)
class Byte(TokenizerTrainer):
    """data.tokenizer=byte. There is nothing to train."""

    reads_text: ClassVar[bool] = False

    def train(self, texts: Iterable[str | Iterable[str]]) -> Tokenizer:
        return ByteTokenizer()


def byte_json() -> str:
    return plain_json({letter: byte for byte, letter in enumerate(byte_alphabet())} | {SEPARATOR: 256})
