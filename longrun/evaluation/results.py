"""The files of an evaluation: the record of what was measured on what, and the table of scored tokens."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data.dataset import Dataset
from data.windows import targets_hash
from longrun.base.errors import DataError
from longrun.base.files import atomic_file, atomic_write
from longrun.evaluation.protocols.base import Protocol, Selections
from longrun.evaluation.token_scores import Row


def measurement_id(data: Dataset, protocol: Protocol, selections: Selections) -> Row:
    """The entries of a record that are the same for every model and extension that is measured in the same way."""
    return {
        "targets_hash": _hash(selections),
        "tokenizer": data.tokenizer.digest,
        "data": data.provenance["options"]["name"],
        "data_fingerprint": data.fingerprint,
        "split": protocol.split,
        "options": protocol.stored_options(),
    }


def result_path(folder: Path, protocol: str, extension: str) -> Path:
    """folder/<protocol>[-<extension>].json"""
    return folder / (protocol + ("" if extension == "none" else f"-{extension}") + ".json")


def write(record: Row, table: pa.Table, folder: Path) -> Path:
    """Write the record into `folder`, and the tokens as parquet beside it; each file is replaced atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    path = result_path(folder, record["protocol"], record["extension"])
    with atomic_file(path.with_suffix(".parquet")) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    return atomic_write(path, json.dumps(record, indent=1) + "\n")


def read(path: Path) -> Row:
    """The record at `path`. Raises ValueError if it is not JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


def refuse_overwrite(path: Path, new_id: Row, lengths: list[int]) -> None:
    """Raise DataError if the record at `path` is of another measurement than `new_id` at these lengths."""
    record = read(path)
    old = dict(
        _flat({**{key: record.get(key) for key in new_id}, "lengths": [row["length"] for row in record["rows"]]})
    )
    new = dict(_flat({**new_id, "lengths": lengths}))
    differing = [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]
    if differing:
        shown = differing if differing == ["targets_hash"] else [key for key in differing if key != "targets_hash"]
        before, now = (", ".join(f"{key}={_shown(each.get(key))}" for key in shown) for each in (old, new))
        raise DataError(
            f"{path} holds another measurement, with {before}.\nThis one has {now}. Add out=FOLDER to keep both."
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
