"""Folders that are whole or not there. No torch here, nothing but files.

    with publish(target, {"step": 200}) as folder:      # a temporary folder beside `target`
        (folder / "weights").write_bytes(...)           # ... any number of plain files
    manifest = verify(target)                           # ModelError unless every byte is as written

A kill at any instant leaves the old `target`, the new one, or a name that `entries` and `clean` know. The order that
makes it survive a power cut too: every file to the disk, their manifest, the folder that names them, the rename, and
last the parent folder that names the renamed one.
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
FORMAT = 1  # raise it when the meaning of a file changes; `verify` refuses other numbers
TEMPORARY = ".tmp"  # suffix of a folder that is being written or removed
REPLACED = ".replaced"  # suffix of a folder that makes way for a new one of the same name
LARGEST_MANIFEST = 2**20  # bytes; ours have about 1,000


@contextmanager
def publish(target: Path, facts: dict) -> Iterator[Path]:
    """Yield an empty temporary folder and, when the block ends well, make it `target`, durably.

    facts: JSON-able, kept in the manifest.  If anything raises (a full disk, Ctrl-C), the temporary folder is removed
    and what `target` was before is untouched.
    """
    temporary = Path(tempfile.mkdtemp(prefix=f"{target.name}.", suffix=TEMPORARY, dir=target.parent))
    try:
        temporary.chmod(0o755)  # mkdtemp makes it private; checkpoints are read by colleagues
        yield temporary
        _seal(temporary, facts)
        for file in temporary.iterdir():
            file.chmod(0o644)
            sync(file)
        sync(temporary)
        _swap(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def verify(folder: Path) -> dict:
    """The manifest of `folder`, after comparing size and checksum of every file that it lists.

    Raises ModelError naming the file and what is wrong. Nothing of a file is interpreted before its checksum agrees.
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


def entries(parent: Path) -> dict[int, Path]:
    """The numbered folders under `parent` by number, ascending, whole or not; temporary ones are not among them."""
    found: dict[int, Path] = {}
    for path in sorted(parent.iterdir(), reverse=True) if parent.is_dir() else []:  # "200.replaced" before "200"
        number = re.fullmatch(rf"(0|[1-9][0-9]*)({re.escape(REPLACED)})?", path.name, re.ASCII)
        if number and path.is_dir():
            found[int(number[1])] = path
    return dict(sorted(found.items()))


def clean(parent: Path) -> None:
    """Remove what killed writers left. One process at a time writes into `parent`, so nobody's work is among it."""
    for path in parent.glob(f"[0-9]*{TEMPORARY}"):
        shutil.rmtree(path, ignore_errors=True)
    for path in parent.glob(f"[0-9]*{REPLACED}"):
        if path.with_suffix("").is_dir():
            remove(path)


def remove(folder: Path) -> None:
    """Remove a folder so that a kill half-way leaves a temporary name, never a folder with some of its files."""
    doomed = folder.with_name(f"{folder.name}.{os.getpid()}{TEMPORARY}")
    folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def sync(path: Path) -> None:
    """fsync a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a folder; they order renames themselves, and a save must not fail on it.
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):
            raise
    finally:
        os.close(descriptor)


def checksum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _seal(folder: Path, facts: dict) -> None:
    files = {f.name: {"bytes": f.stat().st_size, "sha256": checksum(f)} for f in sorted(folder.iterdir())}
    (folder / MANIFEST).write_bytes(_sealed({**facts, "format": FORMAT, "files": files}))


def _sealed(body: dict) -> bytes:
    """The manifest's one and only spelling, its own checksum included: any other byte anywhere is damage."""
    digest = hashlib.sha256(_spell(body)).hexdigest()
    return _spell({**body, "checksum": digest})


def _spell(body: dict) -> bytes:
    return json.dumps(body, indent=1, sort_keys=True).encode()


def _read_manifest(folder: Path) -> dict:
    file = folder / MANIFEST
    if not file.is_file():
        raise ModelError(f"{file}: missing, so {folder} is not a whole checkpoint.")
    if file.stat().st_size > LARGEST_MANIFEST:
        raise ModelError(f"{file}: {file.stat().st_size} bytes is not a manifest of ours.")
    raw = file.read_bytes()
    try:
        manifest = json.loads(raw)
        stated = {key: value for key, value in manifest.items() if key != "checksum"}
        whole = _sealed(stated) == raw
    except (ValueError, AttributeError, RecursionError):  # not UTF-8, not JSON, not a mapping, a nest of brackets
        whole = False
    if not whole:
        raise ModelError(f"{file}: damaged, it does not agree with its own checksum.")
    if manifest.get("format") != FORMAT:
        raise ModelError(f"{file}: format {manifest.get('format')!r}, this version of Longrun reads format {FORMAT}.")
    if not _well_formed(manifest.get("files")):
        raise ModelError(f"{file}: its list of files is not one of ours.")
    return manifest


def _well_formed(files: object) -> bool:
    return isinstance(files, dict) and all(
        isinstance(entry, dict) and isinstance(entry.get("bytes"), int) and isinstance(entry.get("sha256"), str)
        for entry in files.values()
    )


def _swap(temporary: Path, target: Path) -> None:
    """Rename, keeping a folder that already has the name until the new one has it (`entries` finds it meanwhile)."""
    replaced = target.with_name(target.name + REPLACED)
    if target.exists():
        if replaced.exists():
            remove(replaced)
        target.rename(replaced)
    temporary.rename(target)
    sync(target.parent)
    if replaced.exists():
        remove(replaced)
