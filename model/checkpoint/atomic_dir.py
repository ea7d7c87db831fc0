"""Atomic folders: complete or absent, even after a crash. Depends on the standard library only.

    with atomic_directory(target, {"step": 200}) as folder:      # a temporary folder beside `target`
        (folder / "weights").write_bytes(...)           # ... any number of plain files
    manifest = verify(target)                           # ModelError if any byte differs

A kill at any instant leaves the old `target`, the new one, or a name that `list_checkpoints` and `clean` recognise. The
order of writes makes it survive a power cut too: every file, the manifest, the folder, the rename, and last the parent
folder.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ModelError

MANIFEST = "manifest.json"
FORMAT = 1  # incremented when the meaning of a file changes; `verify` refuses other numbers
TEMPORARY = ".tmp"  # suffix of a folder that is being written or removed
REPLACED = ".replaced"  # suffix of a folder that a new one of the same name replaces
LARGEST_MANIFEST = 2**20  # bytes; ours have about 1,000


@contextmanager
def atomic_directory(target: Path, facts: dict) -> Iterator[Path]:
    """Yield an empty temporary folder that durably becomes `target` at the end of the block.

    facts: JSON-serialisable, stored in the manifest.  If anything raises (a full disk, Ctrl-C), the temporary folder is
    removed and `target` stays as it was.
    """
    temporary = Path(tempfile.mkdtemp(prefix=f"{target.name}.", suffix=TEMPORARY, dir=target.parent))
    try:
        temporary.chmod(0o755)  # mkdtemp creates it private, but colleagues read checkpoints
        yield temporary
        _write_manifest(temporary, facts)
        for file in temporary.iterdir():
            file.chmod(0o644)
            sync(file)
        sync(temporary)
        _replace(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def verify(folder: Path) -> dict:
    """Compare size and checksum of every file that the manifest of `folder` lists, and return the manifest.

    No file is interpreted before its checksum agrees. Raises ModelError with the file and the damage.
    """
    manifest = _read_manifest(folder)
    for name, written in manifest["files"].items():
        file = folder / name
        if Path(name).name != name or name == MANIFEST:
            raise ModelError(f"{folder / MANIFEST}: lists {name!r}, which is not a file of this folder.")
        if not file.is_file():  # also keeps devices and pipes out
            raise ModelError(f"{file}: missing; the manifest lists it with {written['bytes']} bytes.")
        size = file.stat().st_size
        if size != written["bytes"]:
            raise ModelError(f"{file}: {size} bytes, but {written['bytes']} were written.")
        if checksum(file) != written["sha256"]:
            raise ModelError(f"{file}: damaged, its sha256 is not that of the {size} bytes written.")
    return manifest


def list_checkpoints(parent: Path) -> dict[int, Path]:
    """The numbered folders under `parent` by ascending number, damaged ones included, temporary ones excluded."""
    folders: dict[int, Path] = {}
    for path in sorted(parent.iterdir(), reverse=True) if parent.is_dir() else []:  # "200.replaced" before "200"
        number = re.fullmatch(rf"(0|[1-9][0-9]*)({re.escape(REPLACED)})?", path.name, re.ASCII)
        if number and path.is_dir():
            folders[int(number[1])] = path
    return dict(sorted(folders.items()))


def clean(parent: Path) -> None:
    """Remove the leftovers of killed writers. Only one process at a time may write into `parent`."""
    for path in parent.glob(f"[0-9]*{TEMPORARY}"):
        shutil.rmtree(path, ignore_errors=True)
    for path in parent.glob(f"[0-9]*{REPLACED}"):
        if path.with_suffix("").is_dir():
            remove(path)


def remove(folder: Path) -> None:
    """Remove a folder. A kill half-way leaves a temporary name, never a folder with some of its files."""
    doomed = folder.with_name(f"{folder.name}.{os.getpid()}{TEMPORARY}")
    folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def sync(path: Path) -> None:
    """fsync a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a folder. They order renames themselves, so a save must not fail.
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):
            raise
    finally:
        os.close(descriptor)


def checksum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write_manifest(folder: Path, facts: dict) -> None:
    files = {f.name: {"bytes": f.stat().st_size, "sha256": checksum(f)} for f in sorted(folder.iterdir())}
    (folder / MANIFEST).write_bytes(_with_checksum({**facts, "format": FORMAT, "files": files}))


def _with_checksum(body: dict) -> bytes:
    """Canonical JSON of the manifest including its own checksum, so that a change of any byte is detected."""
    digest = hashlib.sha256(_canonical_json(body)).hexdigest()
    return _canonical_json({**body, "checksum": digest})


def _canonical_json(body: dict) -> bytes:
    return json.dumps(body, indent=1, sort_keys=True).encode()


def _read_manifest(folder: Path) -> dict:
    file = folder / MANIFEST
    if not file.is_file():
        raise ModelError(f"{file}: missing, so {folder} is not a complete checkpoint.")
    if file.stat().st_size > LARGEST_MANIFEST:
        raise ModelError(f"{file}: {file.stat().st_size} bytes is too large for a manifest.")
    raw = file.read_bytes()
    try:
        manifest = json.loads(raw)
        body = {key: value for key, value in manifest.items() if key != "checksum"}
        valid = _with_checksum(body) == raw
    except (ValueError, AttributeError, RecursionError):  # not UTF-8, not JSON, not a mapping, nested too deeply
        valid = False
    if not valid:
        raise ModelError(f"{file}: damaged, it does not agree with its own checksum.")
    if manifest.get("format") != FORMAT:
        raise ModelError(f"{file}: format {manifest.get('format')!r}, this version of Longrun reads format {FORMAT}.")
    if not _well_formed(manifest.get("files")):
        raise ModelError(f"{file}: its list of files is malformed.")
    return manifest


def _well_formed(files: object) -> bool:
    return isinstance(files, dict) and all(
        isinstance(entry, dict) and isinstance(entry.get("bytes"), int) and isinstance(entry.get("sha256"), str)
        for entry in files.values()
    )


def _replace(temporary: Path, target: Path) -> None:
    """Rename to `target`. A folder of that name is kept under a second name, which `list_checkpoints` finds, until
    the new one is in place."""
    replaced = target.with_name(target.name + REPLACED)
    if target.exists():
        if replaced.exists():
            remove(replaced)
        target.rename(replaced)
    temporary.rename(target)
    sync(target.parent)
    if replaced.exists():
        remove(replaced)
