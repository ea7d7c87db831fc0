"""metrics.jsonl: the record of a run, one JSON object per line. Console, wandb and reports mirror it."""

import errno
import json
import math
import os
from pathlib import Path
from typing import Any

from longrun.base.files import atomic_write

Row = dict[str, Any]


class Metrics:
    """Appends rows to a file, and drops the rows after the step from which a run continues.

    A row is handed to the operating system by `append` and is on the disk after `sync`. With a `sync` before every
    checkpoint, a continued run has each row once, wherever it was interrupted. With `write=False` (other ranks) rows
    are kept in memory only. Raises OSError if the disk is full; the file then ends with the last complete row.
    """

    def __init__(self, path: Path, write: bool = True):
        self.path, self.write = path, write
        self.rows: list[Row] = []
        self.file: Any = None

    def resume(self, step: int) -> None:
        """Keep the rows up to `step` (0: none)."""
        self.close()
        self.rows = [row for row in read(self.path) if row["step"] <= step] if step else []
        if self.write:
            atomic_write(self.path, "".join(line(row) for row in self.rows))

    def append(self, row: Row) -> None:
        """Add a row. Raises OSError, without a partial row in the file."""
        self.rows.append(row)
        if not self.write:
            return
        if self.file is None:
            self.file = self.path.open("ab", buffering=0)
        size = os.fstat(self.file.fileno()).st_size
        text = line(row).encode()
        try:
            written = self.file.write(text)
            if written != len(text):
                raise OSError(
                    errno.ENOSPC,
                    f"{self.path}: only {written} of {len(text)} bytes of a row could be written; is the disk full?",
                )
        except OSError:
            os.ftruncate(self.file.fileno(), size)
            raise

    def sync(self) -> None:
        if self.file is not None:
            os.fsync(self.file.fileno())

    def close(self) -> None:
        if self.file is not None:
            self.sync()
            self.file.close()
            self.file = None


def read(path: Path) -> list[Row]:
    """All complete rows of a file; [] if there is none. An unfinished last line is left out."""
    if not path.is_file():
        return []
    *lines, _ = path.read_bytes().split(b"\n")  # the part after the last newline is empty or unfinished
    return [json.loads(text) for text in lines if text.strip()]


def line(row: Row) -> str:
    """A row as JSON with a newline. NaN and infinity, which JSON lacks, become null."""
    return (
        json.dumps({key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in row.items()}) + "\n"
    )
