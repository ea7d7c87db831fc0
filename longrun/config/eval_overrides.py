"""What an evaluation was asked for on the command line, and what it takes from the run that it measures."""

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from longrun.base.errors import ConfigError
from longrun.config.schema import EvalConfig
from longrun.config.validate import dotted_keys, show
from longrun.runs.run_folder import RunFolder, resolve_run

# Knows which options a source of data has and how it is measured. Named, not imported: nothing here depends on data/.
DATASET = "data.dataset"
# What is no longer what the run meant once one of these was said; else a run is measured again as it was.
DEPENDENT = {
    "data": ("protocol", "lengths", "ratios", "targets"),
    "protocol": ("targets",),
    "lengths": ("lengths", "ratios", "targets"),
    "ratios": ("lengths", "ratios", "targets"),
    "extension": ("extensions",),
    "extensions": ("extensions",),
}


def keys(words: Iterable[str]) -> list[str]:
    """The keys that the words of a command line set."""
    return [word.split("=", 1)[0].lstrip("+~") for word in words]


def as_the_run(values: dict[str, Any], said: list[str]) -> None:
    """Measure a run as its own configuration says, but for what was said. Raises ConfigError."""
    own = stored(values["run"]).get("eval", {})
    roots = {key.split(".")[0] for key in said}
    left = {*roots, *(key for root in roots for key in DEPENDENT.get(root, ()))}
    values.update({key: value for key, value in own.items() if key in values and key not in left})


def require_fitting(values: dict[str, Any], said: list[str]) -> None:
    """Raise ConfigError if an option was said that the protocol does not look at. values: of train.py or eval.py."""
    prefix, options = ("eval.", values["eval"]) if "eval" in values else ("", values)
    named = {key.removeprefix(prefix): key for key in said if key.startswith(prefix)}
    odd = [(name, rules["of"]) for name, _, rules in dotted_keys(EvalConfig) if name in named and "of" in rules]
    protocol = options.get("protocol") or usual_protocol(values) if odd else None
    for name, wanted in odd:
        if protocol not in wanted and options[name] is not None:
            given = f"{named[name]}={show(options[name])}"
            raise ConfigError(
                f"{given} is an option of {' and '.join(wanted)}, and this is {prefix}protocol={protocol}.\n"
                f"Try {prefix}protocol={wanted[0]} {given}"
            )


def usual_protocol(values: dict[str, Any]) -> str:
    """That of the data, or of the data that the run was trained on."""
    data = values.get("data") or {}
    source = data.get("source") or stored(values.get("run")).get("data", {}).get("source")
    return importlib.import_module(DATASET).dataset_class(source).protocol


def stored(run: str | None) -> dict[str, Any]:
    """The configuration of a run; empty if there is none, for others to complain about. Raises ConfigError."""
    folder = RunFolder(Path(resolve_run(run))) if run else None
    return (folder.config() or {}) if folder and folder.started else {}
