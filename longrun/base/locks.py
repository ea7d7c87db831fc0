"""File locks that the kernel drops with the process that holds them, on POSIX systems and on Windows."""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO


def try_lock(file: IO[str], shared: bool = False) -> bool:
    """False if another process holds it. shared: many may, as long as nobody holds it alone (on Windows: one)."""
    if os.name == "nt":
        import msvcrt

        file.seek(1 << 20)  # Windows locks bytes, and who waits wants to read the ones in front
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]
        except PermissionError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def alone(path: Path, waiting: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock file `path` while the block runs.

    waiting: called once, with the name of the process that holds the lock, if there is one.
    On a file system without locks the block runs at once: whoever uses this must be right, if slower, without it.
    """
    with path.open("a+", encoding="utf-8") as file:
        try:
            _wait(file, waiting)
        except OSError:
            yield
            return
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows keeps a file that another process has open
                path.unlink(missing_ok=True)


def _wait(file: IO[str], waiting: Callable[[str], None]) -> None:
    """Polls, so that Ctrl-C and SIGTERM are heard. OSError where locks do not exist."""
    told = False
    while not try_lock(file):
        if not told:
            file.seek(0)
            waiting(file.read().strip() or "another process")
            told = True
        time.sleep(0.1)
