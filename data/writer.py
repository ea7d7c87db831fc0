"""Writing of a corpus folder: token files, offsets, tokenizer; and its provenance."""

import platform
import time
from array import array
from importlib.metadata import version
from pathlib import Path

import numpy as np

from longrun.base.errors import DataError

from .import_warnings import ImportWarnings
from .splits import SplitRule
from .tokenizers.base import Tokenizer


class Writer:
    """Appends the documents of one split to its token file."""

    def __init__(self, folder: Path, split: str, tokenizer: Tokenizer):
        self.offsets_path = folder / f"{split}.documents.npy"
        self.file = (folder / f"{split}.tokens").open("wb")
        self.separator = np.array([tokenizer.separator], tokenizer.dtype)
        self.token_bytes = tokenizer.token_bytes
        self.starts, self.bytes, self.tokens = array("q"), 0, 0

    def begin_document(self) -> None:
        self.starts.append(self.tokens)
        self.write(self.separator)

    def write(self, ids: np.ndarray) -> None:
        self.file.write(ids.tobytes())
        self.tokens += len(ids)
        self.bytes += int(self.token_bytes[ids].sum())

    def close(self) -> dict:
        """Write the offsets and return the counts."""
        self.file.close()
        self.starts.append(self.tokens)
        np.save(self.offsets_path, np.frombuffer(self.starts, np.int64).astype("<i8"))
        return {"documents": len(self.starts) - 1, "bytes": self.bytes, "tokens": self.tokens}


def finalize(
    folder: Path,
    options: dict,
    tokenizer: Tokenizer,
    rule: SplitRule,
    writers: dict[str, Writer],
    warnings: ImportWarnings,
    fingerprint: str,
) -> dict:
    """Close the files, save the tokenizer and return the provenance. Raises DataError if a split is empty."""
    counts = {split: writer.close() for split, writer in writers.items()}
    for split in rule.nonempty():
        if not counts[split]["tokens"]:
            raise DataError(
                f"There is too little text for a {split} split: {sum(c['tokens'] for c in counts.values())} tokens in "
                "total.\nUse more text, or change data.valid_fraction and data.test_fraction (0 omits a split)."
            )
    tokenizer.save(folder)
    return {
        "options": options,
        "fingerprint": fingerprint,
        "split": f"by {rule.by}",
        "split_rule": rule.describe(),
        "splits": counts,
        "notes": dict(sorted(warnings.items())),
        "first": dict(sorted(warnings.first.items())),
        "tokenizer": {"digest": tokenizer.digest, "vocab_size": tokenizer.vocab_size},
        "token_type": tokenizer.dtype.str,
        "versions": {"python": platform.python_version(), "tokenizers": version("tokenizers")},
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
