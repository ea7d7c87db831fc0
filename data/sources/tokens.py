"""Files of token ids, as nanoGPT and llm.c write them: uint16 or uint32 without separators between numbers.

The tokenizer is read from a tokenizer.json next to the files, or from data.tokenizer=FOLDER. Without one,
data.vocab_size is the number of ids, and bits per byte are unknown. A document ends, or begins, at the id
`separator_id`.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, ClassVar, NamedTuple

import numpy as np

from longrun.base.errors import DataError

from ..import_warnings import ImportWarnings
from ..splits import SPLITS, choose_split_rule
from ..tokenizers.base import FILE, Tokenizer
from ..tokenizers.ids import IdTokenizer
from ..tokenizers.load import load_tokenizer
from ..tokenizers.registry import tokenizers, trainer_name
from ..writer import Writer, finalize
from .base import FileSource

TYPES = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}
_CHUNK = 1 << 22  # ids read at a time
_MAGIC, _HEADER = 20240520, 1024  # llm.c: a file begins with 256 int32, the first of which is this one


class TokenSpan(NamedTuple):
    """A document: ids number `start` to `stop` of an open file. `name` is a hash of them."""

    file: BinaryIO
    start: int
    stop: int
    name: str


class Tokens(FileSource):
    """Token files; `write` copies their ids into the corpus."""

    required: ClassVar[tuple[str, ...]] = ("pattern",)

    def check(self) -> None:
        super().check()
        tokenizer_file, count = self.tokenizer_file, self.options.get("vocab_size")
        if tokenizer_file is not None and not tokenizer_file.exists():
            raise DataError(f"data.tokenizer={tokenizer_file} does not exist.\nName a folder that holds a {FILE}.")
        if tokenizer_file is None and count is None:
            raise DataError(
                f"data.path={self.path}: there is no {FILE} beside it, and the number of ids is unknown.\n"
                "Set data.tokenizer=FOLDER to the tokenizer that wrote it, or data.vocab_size=50257."
            )
        separator = self.options.get("separator_id")
        if separator is not None and count is not None and not 0 <= separator < count:
            raise DataError(f"data.separator_id={separator} is none of data.vocab_size={count} ids.\nThey begin at 0.")
        for path in self.files:
            if (path.stat().st_size - self.header(path)) % self.type.itemsize:
                raise DataError(
                    f"{path} has {path.stat().st_size} bytes, not a multiple of {self.type.itemsize}.\n"
                    "Check that it is complete, and data.token_type (uint16 or uint32)."
                )

    def check_tokenizer(self) -> None:
        choice = trainer_name(self.options.get("tokenizer"))
        if choice in tokenizers:
            raise DataError(
                f"data.tokenizer={choice} makes tokens of text, and data.source=tokens has tokens already.\n"
                "Set data.tokenizer=FOLDER to the one that wrote them, or data.vocab_size to the number of ids."
            )

    @property
    def type(self) -> np.dtype:
        return TYPES[self.options.get("token_type") or "uint16"]

    @property
    def tokenizer_file(self) -> Path | None:
        """The tokenizer.json, or its folder, of these ids; None if there is none."""
        if self.options.get("tokenizer") is not None:
            return Path(self.options["tokenizer"]).expanduser()
        return self.root / FILE if (self.root / FILE).is_file() else None

    @staticmethod
    def header(path: Path) -> int:
        """Return the number of bytes in front of the ids."""
        with path.open("rb") as file:
            head = np.frombuffer(file.read(_HEADER), np.uint8)
        return _HEADER if len(head) == _HEADER and head[:4].view("<i4")[0] == _MAGIC else 0

    def tokenizer(self, model_tokenizer: Tokenizer | None) -> Tokenizer:
        file = self.tokenizer_file
        if file is None:
            return self.raw_ids(model_tokenizer)
        own = load_tokenizer(file)
        if model_tokenizer is not None and model_tokenizer.digest != own.digest:
            raise DataError(
                f"data.path={self.path} holds ids of {file}, and the model has another tokenizer.\n"
                "Use the text that they were made of: data=text data.path=FILE."
            )
        return own

    def raw_ids(self, model_tokenizer: Tokenizer | None) -> Tokenizer:
        """Return the tokenizer for ids without one: the model's, if it has all of them, or decimal numbers."""
        count, separator = int(self.options["vocab_size"]), self.options.get("separator_id")
        if model_tokenizer is None:  # without separator_id documents begin with an additional id
            return IdTokenizer(count + 1, count) if separator is None else IdTokenizer(count, separator)
        if count > model_tokenizer.vocab_size:
            raise DataError(
                f"data.path={self.path} holds ids up to {count - 1}, and the model has {model_tokenizer.vocab_size} "
                "ids.\nUse a model that was trained on such ids."
            )
        return model_tokenizer

    def write(self, folder: Path, options: dict, tokenizer: Tokenizer) -> dict:
        """Write tokens, offsets and tokenizer into `folder`; return the provenance."""
        names = (span.name for span in self.spans(tokenizer))
        rule = choose_split_rule(names, options["valid_fraction"], options["test_fraction"])
        writers = {split: Writer(folder, split, tokenizer) for split in SPLITS}
        digest = hashlib.sha256()
        for span in self.spans(tokenizer):
            digest.update(span.name.encode())
            for split, start, stop in rule.ranges(span.name, span.stop - span.start):
                writers[split].begin_document()
                for ids in self.ids(span.file, span.start + start, span.start + stop):
                    writers[split].write(ids.astype(tokenizer.dtype))
        digest.update(json.dumps({"by": rule.by, **rule.fractions()}, sort_keys=True).encode())
        return finalize(folder, options, tokenizer, rule, writers, ImportWarnings(), digest.hexdigest())

    def spans(self, tokenizer: Tokenizer) -> Iterator[TokenSpan]:
        """Yield all documents that are not empty, without the separators around them."""
        remaining = self.options.get("documents")
        for path in self.files:
            with path.open("rb") as file:
                for start, stop in self.bounds(path, file, tokenizer):
                    if start < stop and remaining != 0:
                        yield TokenSpan(file, start, stop, self.name(file, start, stop))
                        remaining = remaining and remaining - 1

    def bounds(self, path: Path, file: BinaryIO, tokenizer: Tokenizer) -> Iterator[tuple[int, int]]:
        """Yield (start, stop) between separators, in ids from the start of the file.

        Raises DataError for an id beyond the vocabulary.
        """
        separator = self.options.get("separator_id")
        separator = tokenizer.separator if separator is None else separator
        first = self.header(path) // self.type.itemsize
        start, place, end = first, first, path.stat().st_size // self.type.itemsize
        for ids in self.ids(file, first, end):
            self.check_ids(path, ids, place, tokenizer.vocab_size)
            for cut in (np.flatnonzero(ids == separator) + place).tolist():
                yield start, cut
                start = cut + 1
            place += len(ids)
        yield start, end

    def ids(self, file: BinaryIO, start: int, stop: int) -> Iterator[np.ndarray]:
        """Yield ids number `start` to `stop` in chunks."""
        width = self.type.itemsize
        for begin in range(start, stop, _CHUNK):
            file.seek(begin * width)
            yield np.frombuffer(file.read((min(begin + _CHUNK, stop) - begin) * width), self.type)

    def name(self, file: BinaryIO, start: int, stop: int) -> str:
        """Hash the ids of a document."""
        digest = hashlib.sha256()
        for ids in self.ids(file, start, stop):
            digest.update(ids.astype("<u4").tobytes())  # equal for files of either type
        return digest.hexdigest()

    def check_ids(self, path: Path, ids: np.ndarray, place: int, vocab_size: int) -> None:
        """Raise DataError for an id beyond the vocabulary, or for uint32 read as uint16."""
        if int(ids.max(initial=0)) >= vocab_size:
            at = int(np.argmax(ids >= vocab_size))
            raise DataError(
                f"{path}: id {ids[at]} at place {place + at}, and the vocabulary has {vocab_size} ids.\n"
                "Check data.token_type (uint16 or uint32) and which tokenizer wrote the file."
            )
        if self.type.itemsize == 2 and place < _CHUNK and len(ids) > 16 and not ids[1::2].any():
            raise DataError(f"{path}: every other id is 0, as in a file of uint32.\nSet data.token_type=uint32.")
