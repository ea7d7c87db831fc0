"""Byte-level BPE, trained on the training split."""

from collections.abc import Iterable
from dataclasses import dataclass

from longrun.base.errors import DataError

from ..options import option
from .base import SEPARATOR, SMALLEST_VOCABULARY, Tokenizer, TokenizerTrainer, cut


@dataclass(frozen=True)
class Bpe(TokenizerTrainer):
    """data.tokenizer=bpe, of data.vocab_size tokens."""

    vocab_size: int = option("number of tokens, separator included", minimum=SMALLEST_VOCABULARY, example=2048)

    def check(self) -> None:
        if self.vocab_size < SMALLEST_VOCABULARY:
            raise DataError(
                f"data.vocab_size={self.vocab_size} is too small: 256 bytes and the separator need "
                f"{SMALLEST_VOCABULARY}.\nFor example data.vocab_size=2048, or data.tokenizer=byte."
            )

    def train(self, texts: Iterable[str | Iterable[str]]) -> Tokenizer:
        return train_bpe(texts, self.vocab_size)


def train_bpe(texts: Iterable[str | Iterable[str]], vocab_size: int) -> Tokenizer:
    """Train a byte-level BPE of at most `vocab_size` tokens, separator included; a long text may come in pieces.

    Equal texts give equal tokenizers. There are fewer tokens if no further pair occurs twice. Text is split into words
    by GPT-2's rule.
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
    documents = ([text] if isinstance(text, str) else text for text in texts)
    library.train_from_iterator((piece for pieces in documents for piece in cut(pieces)), trainer)
    return Tokenizer(library.to_str())
