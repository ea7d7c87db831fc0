"""Corpora: text that was tokenized once, in memory-mapped files in a cache folder.

The folder of a corpus is named by a hash of the options that matter and of each source file's path, size and
modification time, so opening it again reads no text, and a changed file makes a new folder. `fingerprint` is a hash of
the text itself. A folder appears by a rename and is never changed. One process prepares it while others wait, and a
process that is killed leaves nothing that looks like a corpus.

    train.tokens, and of valid and test     little-endian uint16, or uint32 for more than 65,536 ids
    train.documents.npy, ...                int64 offsets; a document starts with its separator token
    tokenizer.json  provenance.json
"""

import contextlib
import hashlib
import json
import math
import os
import shutil
import sys
import tempfile
import time
from functools import cached_property
from pathlib import Path

import numpy as np

from longrun.base.errors import DataError
from longrun.base.files import sync
from longrun.base.locks import exclusive_lock

from .options import own_names
from .sources.base import Source
from .sources.registry import create_source
from .sources.tokens import Tokens
from .splits import SPLITS
from .tokenization import tokenize
from .tokenizers.base import Tokenizer
from .tokenizers.load import load_tokenizer
from .tokenizers.registry import recipe_name
from .windows import Selection, nonoverlap

_FORMAT = 1  # part of every key: increase it when the meaning of the files changes
_STALE = 24 * 3600  # seconds after which an unchanged temporary folder belongs to a killed process


class Corpus:
    """An opened corpus folder, which `prepare` writes. Arrays are read-only memory maps."""

    protocol = "fixed_targets"
    ratios = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)

    def __init__(self, folder: Path, options: dict | None = None):
        """Open a folder.

        options: replaces the options in the provenance, whose name may differ from that of the first preparation.
        Raises DataError if the folder is not a complete corpus.
        """
        self.folder = Path(folder)
        try:
            self.provenance: dict = json.loads((self.folder / "provenance.json").read_text(encoding="utf-8"))
            sizes = {name: (self.folder / name).stat().st_size for name in self.provenance["files"]}
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{folder} is not a corpus: {error}.\nRemove it; it will be prepared again.") from error
        for name, size in self.provenance["files"].items():
            if sizes[name] != size:
                raise DataError(
                    f"{self.folder / name} has {sizes[name]} bytes instead of {size}.\n"
                    "Remove the folder; it will be prepared again."
                )
        self.provenance["options"] = options or self.provenance["options"]

    @property
    def fingerprint(self) -> str:
        """Hash of the names and text of the documents and of the split rule, 64 hexadecimal digits."""
        return self.provenance["fingerprint"]

    @property
    def tokenizer(self) -> Tokenizer:
        return self._tokenizer

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return load_tokenizer(self.folder)

    def tokens(self, split: str) -> np.ndarray:
        """Return all tokens of a split, uint16 or uint32 (n,)."""
        path = self._path(split, "tokens")
        if not path.stat().st_size:
            return np.empty(0, self.provenance["token_type"])  # an empty file cannot be mapped
        return np.memmap(path, self.provenance["token_type"], mode="r")

    def documents(self, split: str) -> np.ndarray:
        """Return int64 (n + 1,): document i is tokens[documents[i]:documents[i + 1]], its separator included."""
        return np.asarray(np.load(self._path(split, "documents.npy"), mmap_mode="r"))

    @property
    def tokens_per_byte(self) -> float:
        """Tokens per byte of the training text; NaN for raw token ids without a tokenizer."""
        counts = self.provenance["splits"]["train"]
        if not counts["tokens"]:
            raise DataError(
                "This corpus has no training text.\nMake data.valid_fraction and data.test_fraction smaller."
            )
        return counts["tokens"] / counts["bytes"] if counts["bytes"] else math.nan

    def batches(self, length: int, batch: int, seed: int):
        """Return the batches of the training split (see `loader.Batches`)."""
        from .loader import Batches  # imports torch

        return Batches(self.tokens("train"), length, batch, seed)

    def validation(self, length: int, count: int) -> Selection:
        """Select at most `count` windows of the validation split, evenly spread."""
        tokens, offsets = self.tokens("valid"), self.documents("valid")
        every = nonoverlap(offsets, length)
        chosen = np.linspace(0, len(every) - 1, min(len(every), count)).astype(np.int64)
        return Selection(tokens, offsets, every[chosen])

    def _path(self, split: str, kind: str) -> Path:
        if split not in SPLITS:
            raise DataError(f"split={split} does not exist.\nChoose one of {', '.join(SPLITS)}.")
        return self.folder / f"{split}.{kind}"


def prepare(
    options: dict, cache: Path | None = None, tokenizer: Tokenizer | None = None, progress: bool = True
) -> Corpus:
    """Open the corpus that `options` (the `data` config group) describe; write it first if the cache lacks it.

    cache: folder for corpora; None = data.cache, and if that is null the user's cache folder.
    tokenizer: used instead of data.tokenizer, to evaluate a model on other text than it was trained on.
    progress: draw a progress bar if standard error is a terminal.

    Raises DataError for invalid options or input, and if the data are token ids of another tokenizer.
    """
    source = create_source(options)
    tokenizer = source.tokenizer(tokenizer)
    options = options | {key: float(options[key]) for key in ("valid_fraction", "test_fraction")}
    home = Path(cache or options.get("cache") or default_cache()).expanduser()
    folder = home / f"{options['source']}-{_key(source, options, tokenizer)}"
    try:
        return Corpus(folder, options)
    except DataError:
        pass  # missing or damaged: prepare it
    report = (lambda line: print(line, file=sys.stderr, flush=True)) if progress else (lambda line: None)
    try:
        home.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(
            home / f"{folder.name}.lock", lambda holder: report(f"waiting for {holder}: it is preparing {folder}")
        ):
            try:
                return Corpus(folder, options)  # prepared by the process that held the lock
            except DataError:
                source.fetch(home, report)
                _make(source, options, folder, tokenizer, progress)
                for kind, place in Corpus(folder).provenance.get("first", {}).items():
                    report(f"{kind}: {Corpus(folder).provenance['notes'][kind]}, the first is {place}")
    except OSError as error:
        raise DataError(
            f"The corpus could not be prepared in data.cache={home}: {error}.\n"
            "Set data.cache to a folder with write permission and enough free space."
        ) from error
    return Corpus(folder, options)


def default_cache() -> Path:
    """Return $XDG_CACHE_HOME/longrun, or `longrun` in the platform's cache folder."""
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"], "longrun")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "longrun"
    if sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"], "longrun", "cache")
    return Path.home() / ".cache" / "longrun"


def _key(source: Source, options: dict, tokenizer: Tokenizer | None) -> str:
    """Return 16 hexadecimal digits that change with everything that changes the content of the folder."""
    shared = ("text_field", "separator", "documents", "valid_fraction", "test_fraction")
    # Options that came later are left out if they are not set, so that earlier corpora are still found.
    later = ("bad_lines", "invalid_utf8", "token_type", "separator_id")
    recipe = {
        "format": _FORMAT,
        "source": options["source"],
        "state": source.state(),
        "options": {key: options.get(key) for key in (*shared, *own_names(source.Options))}
        | {key: options[key] for key in later if options.get(key)},
        "tokenizer": tokenizer.digest if tokenizer else recipe_name(options),
    }
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]


def _make(source: Source, options: dict, folder: Path, tokenizer: Tokenizer | None, progress: bool) -> None:
    _remove_stale(folder)
    temporary = Path(tempfile.mkdtemp(prefix=f"{folder.name}.tmp-", dir=folder.parent))
    try:
        _write(source, options, temporary, tokenizer, progress)
        _publish(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(source: Source, options: dict, folder: Path, tokenizer: Tokenizer | None, progress: bool) -> None:
    """Fill `folder` with a complete corpus and flush it to the disk."""
    if isinstance(source, Tokens):
        assert tokenizer is not None, "Tokens.tokenizer returns one"
        provenance = source.write(folder, options, tokenizer)
    else:
        provenance = tokenize(source, options, folder, tokenizer, progress)
    provenance["files"] = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    (folder / "provenance.json").write_text(json.dumps(provenance, indent=1), encoding="utf-8")
    folder.chmod(0o755)  # mkdtemp makes it private; a cache may be shared
    for path in [*folder.iterdir(), folder]:
        sync(path)


def _publish(temporary: Path, folder: Path) -> None:
    """Rename `temporary` to `folder`, unless another process was faster with a complete one."""
    try:
        os.rename(temporary, folder)
    except OSError:
        try:
            Corpus(folder)
        except DataError:  # a damaged corpus is in the way: move it aside
            wreck = Path(f"{temporary}-damaged")
            os.rename(folder, wreck)
            os.rename(temporary, folder)
            shutil.rmtree(wreck, ignore_errors=True)
    sync(folder.parent)


def _remove_stale(folder: Path) -> None:
    """Delete temporary folders of killed processes that prepared this same corpus."""
    for path in folder.parent.glob(f"{folder.name}.tmp-*"):
        with contextlib.suppress(FileNotFoundError):  # another process is publishing it
            times = [entry.stat().st_mtime for entry in (path, *path.iterdir())]
            if max(times) < time.time() - _STALE:
                shutil.rmtree(path, ignore_errors=True)
