"""Turning a source into token files, as a stream: memory holds one batch of documents at a time."""

import hashlib
import json
import platform
import sys
import time
import zlib
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .errors import DataError
from .sources import Document, Source
from .splits import SPLITS, SplitRule, plan
from .tokenizer import ByteTokenizer, Tokenizer, train_bpe

_BATCH = 1 << 22  # characters encoded in one go
_BPE_TEXT = 1 << 28  # characters of training text that BPE is trained on at most: the first ones


class _Document(NamedTuple):
    name: str
    text: str
    raw: bytes  # the text in UTF-8


class _Writer:
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
    notes: Counter = Counter()
    names = (document.name for document in _documents(source, Counter()))
    rule = plan(names, options["valid_fraction"], options["test_fraction"])
    with _progress(source, progress) as step:
        if tokenizer is None:
            tokenizer = _tokenizer(source, rule, options, step)
        writers = {split: _Writer(folder, split, tokenizer) for split in SPLITS}
        fingerprint = _encode(step("encoding", _documents(source, notes)), rule, tokenizer, writers)
    counts = {split: writer.close() for split, writer in writers.items()}
    for split in rule.wanted():
        if not counts[split]["tokens"]:
            raise DataError(
                f"There is too little text for a {split} split: "
                f"{sum(c['bytes'] for c in counts.values())} bytes in all.\n"
                "Use more text, or change data.valid_fraction and data.test_fraction (0 leaves a split out)."
            )
    tokenizer.save(folder)
    return {
        "options": options,
        "fingerprint": fingerprint,
        "split": f"by {rule.by}",
        "split_rule": rule.describe(),
        "splits": counts,
        "notes": dict(sorted(notes.items())),
        "tokenizer": {"digest": tokenizer.digest, "vocab_size": tokenizer.vocab_size},
        "token_type": tokenizer.dtype.str,
        "versions": {"python": platform.python_version(), "tokenizers": version("tokenizers")},
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _documents(source: Source, notes: Counter) -> Iterator[_Document]:
    """The documents that hold text, as text that UTF-8 can express."""
    for name, text in _readable(source, notes):
        if not text.strip():
            notes["empty documents skipped"] += 1
            continue
        try:
            raw = text.encode()
        except UnicodeEncodeError:  # half of a surrogate pair, which JSON can hold
            notes["documents with lone surrogates replaced"] += 1
            raw = text.encode("utf-8", "replace")
            text = raw.decode()
        yield _Document(name, text, raw)


def _readable(source: Source, notes: Counter) -> Iterator[Document]:
    try:
        yield from islice(source.documents(notes), source.options.get("documents"))
    except (OSError, EOFError, zlib.error) as error:
        where = source.options.get("path") or source.root
        raise DataError(
            f"Reading data.path={where} failed: {error}.\nCheck that its files are whole and that you may read them."
        ) from error


def _tokenizer(source: Source, rule: SplitRule, options: dict, step) -> Tokenizer:
    """The byte tokenizer, or BPE trained on the training split and nothing else."""
    if options["tokenizer"] == "byte":
        return ByteTokenizer()
    if "train" not in rule.wanted():
        raise DataError(
            "data.tokenizer=bpe is trained on the training split, and these fractions leave it empty.\n"
            "Use data.tokenizer=byte, the tokenizer of a finished run, or smaller fractions."
        )

    def texts() -> Iterator[str]:
        read = 0
        for document in step("training the tokenizer", _documents(source, Counter())):
            for split, text in rule.parts(document.name, document.text):
                if split == "train" and read < _BPE_TEXT:
                    read += len(text)
                    yield text
            if read >= _BPE_TEXT:
                return

    return train_bpe(texts(), options["vocab_size"])


def _encode(documents: Iterator[_Document], rule: SplitRule, tokenizer: Tokenizer, writers: dict[str, _Writer]) -> str:
    """Writes all documents; returns the hash of their names, their bytes and the split rule."""
    digest = hashlib.sha256()
    queue: list[tuple[_Writer, str, bool]] = []  # a piece of text, and whether a document begins with it
    size = 0

    def flush() -> None:
        encoded = tokenizer.encode_batch([piece for _, piece, _ in queue])
        for (writer, _, begins), ids in zip(queue, encoded, strict=True):
            if begins:
                writer.begin_document()
            writer.write(ids)
        queue.clear()

    for document in documents:
        for field in (document.name.encode("utf-8", "replace"), document.raw):
            digest.update(len(field).to_bytes(8, "little"))
            digest.update(field)
        for split, text in rule.parts(document.name, document.text):
            for number, piece in enumerate(tokenizer.cut(text)):
                queue.append((writers[split], piece, number == 0))
                size += len(piece)
                if size >= _BATCH:
                    flush()
                    size = 0
    flush()
    digest.update(json.dumps({"by": rule.by, **rule.fractions()}, sort_keys=True).encode())
    return digest.hexdigest()


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
                bar.advance(task, len(document.raw))

        yield step
