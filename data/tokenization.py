"""Turning a source into token files, as a stream: memory holds one batch of documents at a time."""

import hashlib
import json
import platform
import sys
import time
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from longrun.base.errors import DataError

from .sources.base import Document, Source
from .sources.notes import Notes
from .sources.text import LongText, Size
from .splits import SPLITS, SplitRule, plan
from .tokenizers.base import ByteTokenizer, Tokenizer, train_bpe
from .tokenizers.characters import character_tokenizer

_BATCH = 1 << 22  # characters encoded in one go
_TRAINING_TEXT = 1 << 28  # characters of training text that a tokenizer is made of at most: the first ones


class _Document(NamedTuple):
    name: str
    size: Size
    pieces: Callable[[], Iterator[str]]  # of its text, which UTF-8 can express


class Writer:
    """Appends the documents of one split to its token file."""

    def __init__(self, folder: Path, split: str, tokenizer: Tokenizer):
        self.offsets_path = folder / f"{split}.documents.npy"
        self.file = (folder / f"{split}.tokens").open("wb")
        self.separator = np.array([tokenizer.separator], tokenizer.dtype)
        self.sizes = tokenizer.token_bytes
        self.starts, self.bytes, self.tokens = array("q"), 0, 0

    def begin_document(self) -> None:
        self.starts.append(self.tokens)
        self.write(self.separator)

    def write(self, ids: np.ndarray) -> None:
        self.file.write(ids.tobytes())
        self.tokens += len(ids)
        self.bytes += int(self.sizes[ids].sum())

    def close(self) -> dict:
        self.file.close()
        self.starts.append(self.tokens)
        np.save(self.offsets_path, np.frombuffer(self.starts, np.int64).astype("<i8"))
        return {"documents": len(self.starts) - 1, "bytes": self.bytes, "tokens": self.tokens}


def build(source: Source, options: dict, folder: Path, tokenizer: Tokenizer | None, progress: bool) -> dict:
    """Writes tokens, offsets and tokenizer into `folder`; returns the provenance, without writing it."""
    notes = Notes()
    names = (document.name for document in _documents(source, Notes()))
    rule = plan(names, options["valid_fraction"], options["test_fraction"])
    with _progress(source, progress) as step:
        if tokenizer is None:
            tokenizer = _tokenizer(source, rule, options, step)
        writers = {split: Writer(folder, split, tokenizer) for split in SPLITS}
        fingerprint = _encode(step("encoding", _documents(source, notes)), rule, tokenizer, writers)
    return finished(folder, options, tokenizer, rule, writers, notes, fingerprint)


def finished(
    folder: Path,
    options: dict,
    tokenizer: Tokenizer,
    rule: SplitRule,
    writers: dict[str, Writer],
    notes: Notes,
    fingerprint: str,
) -> dict:
    """Closes the files and adds the tokenizer; returns the provenance. Raises DataError if a split is empty."""
    counts = {split: writer.close() for split, writer in writers.items()}
    for split in rule.wanted():
        if not counts[split]["tokens"]:
            raise DataError(
                f"There is too little text for a {split} split: {sum(c['tokens'] for c in counts.values())} tokens in "
                "all.\nUse more text, or change data.valid_fraction and data.test_fraction (0 leaves a split out)."
            )
    tokenizer.save(folder)
    return {
        "options": options,
        "fingerprint": fingerprint,
        "split": f"by {rule.by}",
        "split_rule": rule.describe(),
        "splits": counts,
        "notes": dict(sorted(notes.items())),
        "first": dict(sorted(notes.first.items())),
        "tokenizer": {"digest": tokenizer.digest, "vocab_size": tokenizer.vocab_size},
        "token_type": tokenizer.dtype.str,
        "versions": {"python": platform.python_version(), "tokenizers": version("tokenizers")},
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _documents(source: Source, notes: Notes) -> Iterator[_Document]:
    """The documents that hold text, as text that UTF-8 can express."""
    for name, text in _readable(source, notes):
        document = _Document(name, text.size, text.pieces) if isinstance(text, LongText) else _short(name, text, notes)
        if document.size.blank:
            notes["empty documents skipped"] += 1
        else:
            yield document


def _short(name: str, text: str, notes: Notes) -> _Document:
    try:
        raw = text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can hold
        notes["documents with lone surrogates replaced"] += 1
        raw = text.encode("utf-8", "replace")
        text = raw.decode()
    return _Document(name, Size(len(text), len(raw), not text.strip()), lambda: iter((text,)))


def _readable(source: Source, notes: Notes) -> Iterator[Document]:
    try:
        yield from islice(source.documents(notes), source.options.get("documents"))
    except (OSError, EOFError, zlib.error) as error:
        where = source.options.get("path") or source.root
        raise DataError(
            f"Reading data.path={where} failed: {error}.\nCheck that its files are whole and that you may read them."
        ) from error


def _parts(rule: SplitRule, document: _Document, pieces: Iterable[str]) -> Iterator[tuple[str, Iterator[str]]]:
    """(split, its text in pieces) of each part of a document; each must be used up before the next is asked for."""
    ranges = rule.ranges(document.name, document.size.characters)

    def cut() -> Iterator[tuple[str, str]]:
        place = 0
        for piece in pieces:
            for split, start, stop in ranges:
                text = piece[max(0, start - place) : max(0, stop - place)]
                if text:
                    yield split, text
            place += len(piece)

    for split, texts in groupby(cut(), itemgetter(0)):
        yield split, (text for _, text in texts)


def _tokenizer(source: Source, rule: SplitRule, options: dict, step) -> Tokenizer:
    """The byte tokenizer, or one that is made of the training split and nothing else."""
    if options["tokenizer"] == "byte":
        return ByteTokenizer()
    if "train" not in rule.wanted():
        raise DataError(
            f"data.tokenizer={options['tokenizer']} is trained on the training split, and these fractions leave it "
            "empty.\nUse data.tokenizer=byte, the tokenizer of a finished run, or smaller fractions."
        )

    def texts() -> Iterator[Iterator[str]]:
        left = _TRAINING_TEXT
        for document in step("training the tokenizer", _documents(source, Notes())):
            for split, pieces in _parts(rule, document, document.pieces()):
                if split == "train" and left > 0:
                    yield _at_most(left, pieces)
                    left -= document.size.characters  # at least what was read
            if left <= 0:
                return

    if options["tokenizer"] == "character":
        return character_tokenizer(texts())
    return train_bpe(texts(), options["vocab_size"])


def _at_most(characters: int, pieces: Iterator[str]) -> Iterator[str]:
    """The first pieces, up to the one that reaches so many characters."""
    for piece in pieces:
        yield piece
        characters -= len(piece)
        if characters <= 0:
            return


def _encode(documents: Iterator[_Document], rule: SplitRule, tokenizer: Tokenizer, writers: dict[str, Writer]) -> str:
    """Writes all documents; returns the hash of their names, their bytes and the split rule."""
    digest = hashlib.sha256()
    queue: list[tuple[Writer, str, bool]] = []  # a piece of text, and whether a document begins with it
    size = 0

    def flush() -> None:
        encoded = tokenizer.encode_batch([piece for _, piece, _ in queue])
        for (writer, _, begins), ids in zip(queue, encoded, strict=True):
            if begins:
                writer.begin_document()
            writer.write(ids)
        queue.clear()

    for document in documents:
        name = document.name.encode("utf-8", "replace")
        digest.update(len(name).to_bytes(8, "little") + name + document.size.bytes.to_bytes(8, "little"))
        for split, pieces in _parts(rule, document, _digested(document.pieces(), digest)):
            for number, piece in enumerate(tokenizer.cut(pieces)):
                queue.append((writers[split], piece, number == 0))
                size += len(piece)
                if size >= _BATCH:
                    flush()
                    size = 0
    flush()
    digest.update(json.dumps({"by": rule.by, **rule.fractions()}, sort_keys=True).encode())
    return digest.hexdigest()


def _digested(pieces: Iterator[str], digest) -> Iterator[str]:
    for piece in pieces:
        digest.update(piece.encode())
        yield piece


@contextmanager
def _progress(source: Source, wanted: bool):
    """Gives a function (label, documents) -> documents that draws a bar; off a terminal it draws nothing."""
    if not (wanted and sys.stderr.isatty()):
        yield lambda label, documents: documents
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:

        def step(label: str, documents: Iterator[_Document]) -> Iterator[_Document]:
            task = bar.add_task(label, total=source.size())
            for document in documents:
                yield document
                bar.advance(task, document.size.bytes)

        yield step
