"""Tokenization of a text source as a stream: memory holds one batch of documents at a time."""

import hashlib
import json
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from longrun.base.errors import DataError

from .documents import Document, LongText, Size
from .import_warnings import ImportWarnings
from .sources.base import Source
from .splits import SPLITS, SplitRule, choose_split_rule
from .tokenizers.base import Tokenizer
from .tokenizers.registry import create_trainer
from .writer import Writer, finalize

_BATCH = 1 << 22  # characters encoded in one call
_TRAINING_TEXT = 1 << 28  # characters of training text that a tokenizer is trained on at most: the first ones


class _Document(NamedTuple):
    name: str
    size: Size
    pieces: Callable[[], Iterator[str]]  # of its text, which UTF-8 can express


def tokenize(source: Source, options: dict, folder: Path, tokenizer: Tokenizer | None, progress: bool) -> dict:
    """Write tokens, offsets and tokenizer into `folder`; return the provenance, without writing it."""
    warnings = ImportWarnings()
    names = (document.name for document in _documents(source, ImportWarnings()))
    rule = choose_split_rule(names, options["valid_fraction"], options["test_fraction"])
    with _progress(source, progress) as step:
        if tokenizer is None:
            tokenizer = _train_tokenizer(source, rule, options, step)
        writers = {split: Writer(folder, split, tokenizer) for split in SPLITS}
        fingerprint = _encode(step("encoding", _documents(source, warnings)), rule, tokenizer, writers)
    return finalize(folder, options, tokenizer, rule, writers, warnings, fingerprint)


def _documents(source: Source, warnings: ImportWarnings) -> Iterator[_Document]:
    """Yield the documents that hold text, as text that UTF-8 can express."""
    for name, text in _read(source, warnings):
        document = (
            _Document(name, text.size, text.pieces) if isinstance(text, LongText) else _short(name, text, warnings)
        )
        if document.size.blank:
            warnings["empty documents skipped"] += 1
        else:
            yield document


def _short(name: str, text: str, warnings: ImportWarnings) -> _Document:
    try:
        raw = text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can hold
        warnings["documents with lone surrogates replaced"] += 1
        raw = text.encode("utf-8", "replace")
        text = raw.decode()
    return _Document(name, Size(len(text), len(raw), not text.strip()), lambda: iter((text,)))


def _read(source: Source, warnings: ImportWarnings) -> Iterator[Document]:
    try:
        yield from islice(source.documents(warnings), source.options.get("documents"))
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"Reading data.path={source.location} failed: {error}.\n"
            "Check that its files are complete and that you have permission to read them."
        ) from error


def _parts(rule: SplitRule, document: _Document, pieces: Iterable[str]) -> Iterator[tuple[str, Iterator[str]]]:
    """Yield (split, its text in pieces) of each part of a document; consume each before the next one."""
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


def _train_tokenizer(source: Source, rule: SplitRule, options: dict, step) -> Tokenizer:
    """Make the tokenizer that the options name, from the training split alone. Raises DataError if that is empty."""
    trainer = create_trainer(options)
    if not trainer.reads_text:
        return trainer.train(())
    if "train" not in rule.nonempty():
        raise DataError(
            f"data.tokenizer={options['tokenizer']} is trained on the training split, and these fractions leave it "
            "empty.\nUse data.tokenizer=byte, the tokenizer of a finished run, or smaller fractions."
        )

    def texts() -> Iterator[Iterator[str]]:
        remaining = _TRAINING_TEXT
        for document in step("training the tokenizer", _documents(source, ImportWarnings())):
            for split, pieces in _parts(rule, document, document.pieces()):
                if split == "train" and remaining > 0:
                    yield _take_characters(remaining, pieces)
                    remaining -= document.size.characters  # at least the number that was read
            if remaining <= 0:
                return

    return trainer.train(texts())


def _take_characters(count: int, pieces: Iterator[str]) -> Iterator[str]:
    """Yield the first pieces, up to the one that completes `count` characters."""
    for piece in pieces:
        yield piece
        count -= len(piece)
        if count <= 0:
            return


def _encode(documents: Iterator[_Document], rule: SplitRule, tokenizer: Tokenizer, writers: dict[str, Writer]) -> str:
    """Write all documents; return the hash of their names, their bytes and the split rule."""
    digest = hashlib.sha256()
    queue: list[tuple[Writer, str, bool]] = []  # (writer, text, first piece of a document)
    size = 0

    def flush() -> None:
        encoded = tokenizer.encode_batch([piece for _, piece, _ in queue])
        for (writer, _, is_first), ids in zip(queue, encoded, strict=True):
            if is_first:
                writer.begin_document()
            writer.write(ids)
        queue.clear()

    for document in documents:
        name = document.name.encode("utf-8", "replace")
        digest.update(len(name).to_bytes(8, "little") + name + document.size.bytes.to_bytes(8, "little"))
        for split, pieces in _parts(rule, document, _update_digest(document.pieces(), digest)):
            for number, piece in enumerate(tokenizer.cut(pieces)):
                queue.append((writers[split], piece, number == 0))
                size += len(piece)
                if size >= _BATCH:
                    flush()
                    size = 0
    flush()
    digest.update(json.dumps({"by": rule.by, **rule.fractions()}, sort_keys=True).encode())
    return digest.hexdigest()


def _update_digest(pieces: Iterator[str], digest) -> Iterator[str]:
    for piece in pieces:
        digest.update(piece.encode())
        yield piece


@contextmanager
def _progress(source: Source, enabled: bool):
    """Provide a function (label, documents) -> documents that draws a progress bar on a terminal."""
    if not (enabled and sys.stderr.isatty()):
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
