"""A lock on an open file that the kernel drops with the process; on POSIX systems and on Windows."""

import os
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
