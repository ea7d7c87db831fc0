"""Exclusive file locks. The kernel releases a lock when its process dies, so that stale locks cannot occur.

A lock file contains the name of the process that holds it, for the message to other processes.
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

_TEXT = 1  # offset of the holder's name: on Windows byte 0 is locked and cannot be read by others


def try_lock(file: IO[str]) -> bool:
    """Lock an open file until it is closed; False if another process holds the lock.

    Raises OSError on a file system without locks.
    """
    from filelock import lock_descriptor

    return lock_descriptor(file.fileno(), blocking=False)


def write_holder(file: IO[str]) -> None:
    """Replace the content of a locked file by the name of this process."""
    file.truncate(0)
    file.write(f"{' ' * _TEXT}process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()


def read_holder(file: IO[str]) -> str:
    """The name of the process that holds the lock."""
    file.seek(_TEXT)
    return file.read().strip() or "another process"


@contextlib.contextmanager
def exclusive_lock(path: Path, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock file `path` during the block, after waiting for it as long as necessary.

    on_wait: called once with the holder's name, if another process holds the lock.
    On a file system without locks the block runs at once: the caller must be correct, if slower, without the lock.
    """
    with path.open("a+", encoding="utf-8") as file:
        try:
            _wait(file, on_wait)
        except OSError:
            yield
            return
        write_holder(file)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows keeps a file that another process has open
                path.unlink(missing_ok=True)


def _wait(file: IO[str], on_wait: Callable[[str], None]) -> None:
    """Poll until the lock is free, so that Ctrl-C and SIGTERM are handled meanwhile. Raises OSError without locks."""
    announced = False
    while not try_lock(file):
        if not announced:
            on_wait(read_holder(file))
            announced = True
        time.sleep(0.1)
