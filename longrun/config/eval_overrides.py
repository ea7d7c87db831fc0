"""The keys of an evaluation: the options of the protocols, and the settings that are taken from the evaluated run."""

from collections.abc import Iterable
from dataclasses import field, fields, make_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from longrun.base.errors import ConfigError
from longrun.config.schema import EvalConfig, EvalRunConfig
from longrun.config.validate import show
from longrun.evaluation.protocols import registry as protocols
from longrun.runs.run_folder import RunFolder, resolve_run

# If the key on the left is overridden, these settings of the run no longer apply and have their defaults again.
# FROM_LENGTHS stands for the options whose default depends on the evaluated lengths.
FROM_LENGTHS = "options whose default depends on the lengths"
DEPENDENT = {
    "data": ("protocol", "lengths", "ratios", FROM_LENGTHS),
    "protocol": (FROM_LENGTHS,),
    "lengths": ("lengths", "ratios", FROM_LENGTHS),
    "ratios": ("lengths", "ratios", FROM_LENGTHS),
    "extension": ("extensions",),
    "extensions": ("extensions",),
}


@cache
def with_protocol_options(schema: Any) -> Any:
    """`schema` with the options of every protocol among the keys of its `EvalConfig`.

    Raises ConfigError for a protocol that declares a key which every evaluation has.
    """
    hints = get_type_hints(schema)
    if not issubclass(schema, EvalConfig):
        nested = [
            (name, hint) for name, hint in hints.items() if isinstance(hint, type) and issubclass(hint, EvalConfig)
        ]
        rules = {item.name: item.metadata for item in fields(schema)}
        added = [(name, with_protocol_options(hint), field(metadata=rules[name])) for name, hint in nested]
        return make_dataclass(schema.__name__, added, bases=(schema,), kw_only=True)
    choices = {item.name: item.metadata for item in fields(schema)}["protocol"] | {"choices": protocols.names()}
    added = [("protocol", hints["protocol"], field(metadata=choices))]
    for name, (item, users) in protocols.options().items():
        if name in get_type_hints(EvalRunConfig):
            raise ConfigError(
                f"{protocols.file_of(users[0])} declares the option {name}, which is a key of every evaluation.\n"
                "Give it another name"
            )
        rules = {**item.metadata, "doc": f"{', '.join(users)}: {item.metadata['doc']}"}
        added.append((name, protocols.option_type(name), field(metadata=rules)))
    return make_dataclass(schema.__name__, added, bases=(schema,), kw_only=True)


def keys(words: Iterable[str]) -> list[str]:
    """The keys that the words of a command line set."""
    return [word.split("=", 1)[0].lstrip("+~") for word in words]


def inherit_run_config(values: dict[str, Any], cli_keys: list[str]) -> None:
    """Take the settings of the evaluation from the run, except those that are overridden. Raises ConfigError."""
    own = stored(values["run"]).get("eval", {})
    roots = {key.split(".")[0] for key in cli_keys}
    reset = {*roots, *(key for root in roots for key in DEPENDENT.get(root, ()))}
    if FROM_LENGTHS in reset:
        reset |= {name for name, (item, _) in protocols.options().items() if item.metadata["default_for"]}
    values.update({key: value for key, value in own.items() if key in values and key not in reset})


def check_protocol_options(values: dict[str, Any], cli_keys: list[str]) -> None:
    """Raise ConfigError if the command line sets an option of another protocol. values: of train.py or eval.py."""
    prefix, options = ("eval.", values["eval"]) if "eval" in values else ("", values)
    named = {key.removeprefix(prefix): key for key in cli_keys if key.startswith(prefix)}
    selected = [(name, users) for name, (_, users) in protocols.options().items() if name in named]
    protocol = options.get("protocol") or default_protocol(values) if selected else None
    for name, users in selected:
        if protocol not in users and options[name] is not None:
            word = f"{named[name]}={show(options[name])}"
            raise ConfigError(
                f"{word} is an option of {' and '.join(users)}, and this is {prefix}protocol={protocol}.\n"
                f"Try {prefix}protocol={users[0]} {word}"
            )


def default_protocol(values: dict[str, Any]) -> str:
    """The protocol of the data, or of the data that the run was trained on."""
    from data import dataset

    data = values.get("data") or {}
    source = data.get("source") or stored(values.get("run")).get("data", {}).get("source")
    return dataset.dataset_class(source).protocol


def stored(run: str | None) -> dict[str, Any]:
    """The configuration of a run; empty if there is none, which a later check reports. Raises ConfigError."""
    folder = RunFolder(Path(resolve_run(run))) if run else None
    return (folder.config() or {}) if folder and folder.started else {}
