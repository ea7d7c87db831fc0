"""The files of an evaluation: the record, which says what was measured on what, and the table of scored tokens."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data.dataset import Dataset
from data.windows import Selection, targets_hash
from longrun.base.errors import DataError
from longrun.base.files import atomic_file, atomic_write
from longrun.evaluation.protocols.base import Protocol
from longrun.evaluation.token_scores import Row

Selections = dict[int, Selection | DataError]


def measurement(data: Dataset, protocol: Protocol, selections: Selections) -> Row:
    """The part of a record that says what was asked, whoever answered."""
    options = protocol.options
    return {
        "targets_hash": _hash(selections),
        "tokenizer": data.tokenizer.digest,
        "data": data.provenance["options"]["name"],
        "data_fingerprint": data.fingerprint,
        "split": options.split,
        "options": {key: getattr(options, key) for key in protocol.keys},
    }


def place(folder: Path, protocol: str, extension: str) -> Path:
    """folder/<protocol>[-<extension>].json"""
    return folder / (protocol + ("" if extension == "none" else f"-{extension}") + ".json")


def write(record: Row, table: pa.Table, folder: Path) -> Path:
    """The record at its place in `folder`, the tokens as parquet beside it; whole or not there."""
    folder.mkdir(parents=True, exist_ok=True)
    path = place(folder, record["protocol"], record["extension"])
    with atomic_file(path.with_suffix(".parquet")) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    return atomic_write(path, json.dumps(record, indent=1) + "\n")


def read(path: Path) -> Row:
    """The record at `path`. Raises ValueError if it is not JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


def require_room(path: Path, new: Row, lengths: list[int]) -> None:
    """Raise DataError if the record at `path` is of another measurement than `new` at these lengths."""
    record = read(path)
    there = dict(_flat({**{key: record.get(key) for key in new}, "lengths": [row["length"] for row in record["rows"]]}))
    ours = dict(_flat({**new, "lengths": lengths}))
    differing = [key for key in dict.fromkeys([*there, *ours]) if there.get(key) != ours.get(key)]
    if differing:
        shown = differing if differing == ["targets_hash"] else [key for key in differing if key != "targets_hash"]
        old, this = (", ".join(f"{key}={_shown(each.get(key))}" for key in shown) for each in (there, ours))
        raise DataError(
            f"{path} holds another measurement, with {old}.\nThis one has {this}. Add out=FOLDER to keep both."
        )


def _flat(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        yield from _flat(value) if isinstance(value, dict) else [(key, value)]


def _shown(value: Any) -> str:
    return "null" if value is None else str(value).replace(" ", "")


def _hash(selections: Selections) -> str:
    """The name of the scored set; of all the sets where a protocol scores other tokens at each length."""
    scored = [each for each in selections.values() if not isinstance(each, DataError)]
    return "+".join(dict.fromkeys(targets_hash(each.windows, each.tokens) for each in scored))
