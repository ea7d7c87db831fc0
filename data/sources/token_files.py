"""Files of token ids, as nanoGPT and llm.c write them: uint16 or uint32, one after the other, nothing else.

What the ids stand for says a tokenizer.json beside them, or data.tokenizer=FOLDER; without one, data.vocab_size says
how many there are, and bits per byte are unknown. A document ends, or begins, where the id `separator_id` stands.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from longrun.base.errors import DataError

from ..splits import SPLITS, plan
from ..tokenization import Writer, finished
from ..tokenizers.base import FILE, Tokenizer
from ..tokenizers.ids import NumberTokenizer
from .base import Source
from .notes import Notes

TYPES = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}
_CHUNK = 1 << 22  # ids read at a time
_MAGIC, _HEADER = 20240520, 1024  # llm.c begins a file with 256 int32: this one, and what it says itself


class Stretch(NamedTuple):
    """A document: ids number `start` to `stop` of an open file. `name` is a hash of them."""

    file: BinaryIO
    start: int
    stop: int
    name: str


class TokenFiles(Source):
    def check(self) -> None:
        super().check()
        if self.type is None:
            given = self.options.get("token_type")
            raise DataError(f"data.token_type={given} is unknown.\nChoose one of {', '.join(TYPES)}.")
        named, count = self.tokenizer_file, self.options.get("vocab_size")
        if named is not None and not named.exists():
            raise DataError(f"data.tokenizer={named} does not exist.\nName a folder that holds a {FILE}.")
        if named is None and count is None:
            raise DataError(
                f"data.path={self.path}: there is no {FILE} beside it, and nothing says how many ids there are.\n"
                "Set data.tokenizer=FOLDER to the tokenizer that wrote it, or data.vocab_size=50257."
            )
        separator = self.options.get("separator_id")
        if separator is not None and count is not None and not 0 <= separator < count:
            raise DataError(f"data.separator_id={separator} is none of data.vocab_size={count} ids.\nThey begin at 0.")
        for path in self.files:
            if (path.stat().st_size - self.header(path)) % self.type.itemsize:
                raise DataError(
                    f"{path} has {path.stat().st_size} bytes, no multiple of {self.type.itemsize}.\n"
                    "Check that it is whole, and data.token_type (uint16 or uint32)."
                )

    @property
    def type(self) -> np.dtype:
        return TYPES.get(str(self.options.get("token_type") or "uint16"))  # type: ignore[return-value]

    @property
    def tokenizer_file(self) -> Path | None:
        """What says what the ids are; None if nothing does."""
        if self.options.get("tokenizer") is not None:
            return Path(self.options["tokenizer"]).expanduser()
        return self.root / FILE if (self.root / FILE).is_file() else None

    @staticmethod
    def header(path: Path) -> int:
        """Bytes in front of the ids."""
        with path.open("rb") as file:
            head = np.frombuffer(file.read(_HEADER), np.uint8)
        return _HEADER if len(head) == _HEADER and head[:4].view("<i4")[0] == _MAGIC else 0

    def tokenizer(self, given: Tokenizer | None) -> Tokenizer:
        file = self.tokenizer_file
        if file is None:
            return self.numbers(given)
        own = Tokenizer.load(file)
        if given is not None and given.digest != own.digest:
            raise DataError(
                f"data.path={self.path} holds ids of {file}, and the model has another tokenizer.\n"
                "Use the text that they were made of: data=text data.path=FILE."
            )
        return own

    def numbers(self, given: Tokenizer | None) -> Tokenizer:
        """Where nothing says what ids are: the model's, which must know all of them, or numbers."""
        count, separator = int(self.options["vocab_size"]), self.options.get("separator_id")
        if given is None:  # without a separator documents begin with an id of their own
            return NumberTokenizer(count + 1, count) if separator is None else NumberTokenizer(count, separator)
        if count > given.vocab_size:
            raise DataError(
                f"data.path={self.path} holds ids up to {count - 1}, and the model knows {given.vocab_size}.\n"
                "Use a model that was trained on such ids."
            )
        return given

    def write(self, folder: Path, options: dict, tokenizer: Tokenizer | None, progress: bool) -> dict:
        assert tokenizer is not None, "see `tokenizer`"
        names = (stretch.name for stretch in self.stretches(tokenizer))
        rule = plan(names, options["valid_fraction"], options["test_fraction"])
        writers = {split: Writer(folder, split, tokenizer) for split in SPLITS}
        digest = hashlib.sha256()
        for stretch in self.stretches(tokenizer):
            digest.update(stretch.name.encode())
            for split, start, stop in rule.ranges(stretch.name, stretch.stop - stretch.start):
                writers[split].begin_document()
                for ids in self.ids(stretch.file, stretch.start + start, stretch.start + stop):
                    writers[split].write(ids.astype(tokenizer.dtype))
        digest.update(json.dumps({"by": rule.by, **rule.fractions()}, sort_keys=True).encode())
        return finished(folder, options, tokenizer, rule, writers, Notes(), digest.hexdigest())

    def stretches(self, tokenizer: Tokenizer) -> Iterator[Stretch]:
        """All documents, without the separators around them; empty ones left out."""
        left = self.options.get("documents")
        for path in self.files:
            with path.open("rb") as file:
                for start, stop in self.bounds(path, file, tokenizer):
                    if start < stop and left != 0:
                        yield Stretch(file, start, stop, self.name(file, start, stop))
                        left = left and left - 1

    def bounds(self, path: Path, file: BinaryIO, tokenizer: Tokenizer) -> Iterator[tuple[int, int]]:
        """(start, stop) between separators, in ids from the file's beginning. Raises DataError for a strange id."""
        separator = self.options.get("separator_id")
        separator = tokenizer.separator if separator is None else separator
        first = self.header(path) // self.type.itemsize
        start, place, end = first, first, path.stat().st_size // self.type.itemsize
        for ids in self.ids(file, first, end):
            self.require_known(path, ids, place, tokenizer.vocab_size)
            for cut in (np.flatnonzero(ids == separator) + place).tolist():
                yield start, cut
                start = cut + 1
            place += len(ids)
        yield start, end

    def ids(self, file: BinaryIO, start: int, stop: int) -> Iterator[np.ndarray]:
        width = self.type.itemsize
        for begin in range(start, stop, _CHUNK):
            file.seek(begin * width)
            yield np.frombuffer(file.read((min(begin + _CHUNK, stop) - begin) * width), self.type)

    def name(self, file: BinaryIO, start: int, stop: int) -> str:
        digest = hashlib.sha256()
        for ids in self.ids(file, start, stop):
            digest.update(ids.astype("<u4").tobytes())  # the same documents are the same in files of either type
        return digest.hexdigest()

    def require_known(self, path: Path, ids: np.ndarray, place: int, vocab_size: int) -> None:
        if int(ids.max(initial=0)) >= vocab_size:
            at = int(np.argmax(ids >= vocab_size))
            raise DataError(
                f"{path}: id {ids[at]} at place {place + at}, and the vocabulary has {vocab_size}.\n"
                "Check data.token_type (uint16 or uint32) and which tokenizer wrote the file."
            )
        if self.type.itemsize == 2 and place < _CHUNK and len(ids) > 16 and not ids[1::2].any():
            raise DataError(
                f"{path}: every other id is 0, as if the numbers were twice as wide.\nSet data.token_type=uint32."
            )
