"""One token a character.

The vocabulary is the 256 bytes, the separator, and one token for every character beyond ASCII that training text has
more than once. All other characters are written as their bytes, so any text can be encoded and bits per byte are exact.
It is a byte-level BPE with chosen merges: the bytes of a character are merged, and nothing else, because in UTF-8 the
bytes of two characters never form a third.
"""

from collections import Counter
from collections.abc import Iterable

from .base import SEPARATOR, Tokenizer, byte_letters, plain_json


def character_tokenizer(texts: Iterable[str | Iterable[str]]) -> Tokenizer:
    """For the characters of `texts`, of which a long one may come in pieces; equal texts give equal tokenizers."""
    counts: Counter[str] = Counter()
    for text in texts:
        for piece in [text] if isinstance(text, str) else text:
            counts.update(piece if not piece.isascii() else "")
    letters = {byte: letter for letter, byte in byte_letters().items()}
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
