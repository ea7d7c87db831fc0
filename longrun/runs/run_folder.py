"""The run folder: its name, its state, and the lock that keeps a second process out.

    runs/<pe>-<model>-<data>-L<length>-s<seed>-<hash>/
        config.yaml environment.json metrics.jsonl checkpoints/<step>/ eval/ done

The name is a function of the configuration, so that the same command finds the same folder: a finished run is skipped,
an unfinished one is continued. `done` is written last and holds the summary.
"""

import glob
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import IO, Any

import yaml

from longrun.base.errors import ConfigError
from longrun.base.files import atomic_write
from longrun.base.locks import read_holder, try_lock, write_holder
from longrun.config.schema import TrainConfig
from longrun.runs.environment import environment
from model.extension.registry import first_form
from model.old_keys import rename_all, with_old_names

# Keys that may differ between two launches of the same run, because the trained weights do not depend on them.
# All other keys are hashed. This is the only list.
UNHASHED_KEYS = {
    "root": "location of the folder",
    "tracker": "metrics are only mirrored",
    "launch": "start of the processes",
    "eval": "measured after the weights are final",
    "eval_at_end": "measured after the weights are final",
    "checkpoint": "moments at which the state is saved",
    "data.cache": "location of the tokens",
    "model.name": "already in the name",
    "train.log_every": "rows of metrics.jsonl",
    "train.valid_every": "validation draws no random numbers",
    "train.valid_windows": "validation draws no random numbers",
    "train.micro_batch": "the same sum, different rounding",
    "train.threads": "the same sum, different rounding",
    "train.device": "the same sum, different rounding",
    "train.compile": "the same sum, different rounding",
    "train.checkpoint_activations": "the same numbers, computed twice",
    "train.data_parallel": "the same sum, different rounding",
    "train.timeout": "end of waiting for a hanging process",
}


def hashed_config(config: TrainConfig) -> dict[str, Any]:
    """The part of a configuration that determines the trained weights, under today's names.

    A key marked `later` in the metadata of its dataclass is left out at its default: runs from before the key keep
    their names.
    """
    hashed = without_later_defaults(config)
    for key in UNHASHED_KEYS:
        *path, last = key.split(".")
        parent = hashed
        for part in path:
            parent = parent[part]
        parent.pop(last, None)  # a task has no data.cache
    return hashed


def without_later_defaults(config: Any) -> dict[str, Any]:
    """A dataclass as nested dicts, without the keys marked `later` that have their default value."""
    values = {}
    for item in fields(config):
        value = getattr(config, item.name)
        if item.metadata.get("later") and value == item.default:
            continue
        values[item.name] = without_later_defaults(value) if is_dataclass(value) else value
    return values


def fingerprint(config: TrainConfig) -> str:
    """Eight hexadecimal digits of a hash over `hashed_config`, in the spelling of keys from before any was renamed."""
    hashed = hashed_config(config)
    hashed["extension"] = first_form(hashed["extension"])
    text = json.dumps(with_old_names(hashed), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def name(config: TrainConfig) -> str:
    """`rope-tiny-stdlib-L128-s0-0a1b2c3d`."""
    changed = "" if config.extension["scheme"] == "unchanged" else f".{config.extension['name']}"
    words = (config.pe["name"] + changed, config.model.name, config.data.name)
    readable = "-".join("".join(c if c.isalnum() or c in "_." else "_" for c in word) for word in words)
    return f"{readable}-L{config.train.length}-s{config.seed}-{fingerprint(config)}"


@dataclass(frozen=True)
class RunFolder:
    path: Path

    @classmethod
    def of(cls, config: TrainConfig) -> "RunFolder":
        return cls(Path(config.root) / name(config))

    @property
    def finished(self) -> bool:
        return (self.path / "done").is_file()

    @property
    def started(self) -> bool:
        return (self.path / "config.yaml").is_file()

    def create(self, config: TrainConfig) -> None:
        """Make the folder and write config.yaml and environment.json. A continued run replaces them."""
        self.path.mkdir(parents=True, exist_ok=True)
        atomic_write(self.path / "config.yaml", yaml.safe_dump(asdict(config), sort_keys=False))
        atomic_write(self.path / "environment.json", json.dumps(environment(), indent=2) + "\n")

    def config(self) -> dict[str, Any]:
        """The configuration that the run was last launched with, as plain values under today's key names."""
        return rename_all(yaml.safe_load((self.path / "config.yaml").read_text()) or {})

    def finish(self, summary: dict[str, Any]) -> None:
        """Write `done`. The run is skipped from then on."""
        atomic_write(self.path / "done", json.dumps(summary, indent=2) + "\n")

    def summary(self) -> dict[str, Any] | None:
        """The content of `done`; None for an unfinished run."""
        return json.loads((self.path / "done").read_text()) if self.finished else None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes out while the block runs. Raises ConfigError naming the holder.

        The kernel releases the lock when its process dies, so that a killed run leaves nothing to clean up. A folder
        without a config.yaml at the end of the block is removed.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = self._locked()
        except OSError as error:
            raise ConfigError(f"root={self.path.parent}: {error.strerror}.\nTry a folder that can be written") from None
        with file:
            try:
                yield
            finally:
                if not self.started:
                    (self.path / "lock").unlink(missing_ok=True)
                    with suppress(OSError):  # not empty
                        self.path.rmdir()

    def check_free(self) -> None:
        """Raise ConfigError naming the holder of the lock, if there is one. `lock` decides; this check is early, before
        torch is imported.
        """
        file = self.path / "lock"
        mode = "r+" if os.access(file, os.W_OK) else "r"  # an exclusive lock on NFS needs permission to write
        with suppress(OSError), file.open(mode) as stream:
            self._take(stream)

    def _take(self, file: IO[str]) -> None:
        for _ in range(4):  # `check_free` of another process may hold it for microseconds
            if try_lock(file):
                return
            time.sleep(0.03)
        raise ConfigError(
            f"{self.path} is in use by {read_holder(file)}.\nWait for it, stop it, or choose another seed or root"
        )

    def _locked(self) -> IO[str]:
        """The lock file, locked and with the name of this process in it."""
        file = (self.path / "lock").open("a+")
        try:
            self._take(file)
        except ConfigError:
            file.close()
            raise
        write_holder(file)
        return file


def list_runs(root: str | Path) -> list[RunFolder]:
    """The run folders directly below `root`, by name."""
    return [RunFolder(path.parent) for path in sorted(Path(root).glob("*/config.yaml"))]


def resolve_run(pattern: str) -> str:
    """The one run folder that matches a pattern such as `runs/rope-*`; a path without wildcards is returned as it is.

    Raises ConfigError if no run or several match.
    """
    if not any(c in pattern for c in "*?[") or Path(pattern).exists():
        return pattern
    matches = sorted(path for path in glob.glob(pattern) if RunFolder(Path(path)).started)
    if len(matches) == 1:
        return matches[0]
    if not matches:
        raise ConfigError(f"run={pattern}: no run folder matches.\nFor a list of them: python -m scripts.runs")
    listed = ", ".join(matches[:3]) + (", ..." if len(matches) > 3 else "")
    raise ConfigError(f"run={pattern} matches {len(matches)} runs.\nName one: {listed}")
