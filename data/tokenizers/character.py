"""Character tokenizer: one token per character that occurs more than once in the training text.

The vocabulary is the 256 bytes, the separator, and one token per character beyond ASCII that the training text has more
than once. All other characters are written as their bytes, so any text can be encoded and bits per byte are exact. It
is a byte-level BPE with fixed merges, which join the bytes of a character: in UTF-8 the bytes of two characters never
form a third.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from .base import SEPARATOR, Tokenizer, TokenizerTrainer, byte_alphabet, plain_json


@dataclass(frozen=True)
class Character(TokenizerTrainer):
    """data.tokenizer=character."""

    def train(self, texts: Iterable[str | Iterable[str]]) -> Tokenizer:
        return train_characters(texts)


def train_characters(texts: Iterable[str | Iterable[str]]) -> Tokenizer:
    """Make the tokenizer for the characters of `texts`; a long text may come in pieces."""
    counts: Counter[str] = Counter()
    for text in texts:
        for piece in [text] if isinstance(text, str) else text:
            counts.update(piece if not piece.isascii() else "")
    letters = byte_alphabet()
    vocabulary = {letters[byte]: byte for byte in range(256)} | {SEPARATOR: 256}
    merges = []
    for character in sorted(c for c, count in counts.items() if count > 1 and not c.isascii()):
        parts = [letters[byte] for byte in character.encode()]
        for end in range(2, len(parts) + 1):
            token = "".join(parts[:end])
            if token not in vocabulary:
                vocabulary[token] = len(vocabulary)
                merges.append(["".join(parts[: end - 1]), parts[end - 1]])
    return Tokenizer(plain_json(vocabulary, merges))
