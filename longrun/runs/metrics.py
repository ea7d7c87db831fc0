"""metrics.jsonl: the record of a run, one JSON object a line. Everything else that shows numbers mirrors it."""

import errno
import json
import math
import os
from pathlib import Path
from typing import Any

from longrun.base.files import atomic_write

Row = dict[str, Any]


class Metrics:
    """Appends rows, and forgets those behind the step that a run goes on from.

    A row is on its way to the disk when `append` returns and on the disk after `sync`, which belongs in front of every
    checkpoint: then no row is missing and none is there twice, wherever a run was cut off. With `write=False` (the
    other ranks) rows are kept in memory only. Raises OSError when the disk is full; no part of a row stays behind.
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
    """All whole rows of a file; [] if there is none. A last line that was cut off is left out."""
    if not path.is_file():
        return []
    *whole, _ = path.read_bytes().split(b"\n")  # what follows the last newline is empty or torn
    return [json.loads(text) for text in whole if text.strip()]


def line(row: Row) -> str:
    """JSON has no NaN and no infinity: they become null."""
    return (
        json.dumps({key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in row.items()}) + "\n"
    )
