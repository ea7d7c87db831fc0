"""Runs that start from the weights of another model (`init_from`): the settings that come with the weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from longrun.base.errors import ConfigError
from longrun.runs.run_folder import resolve_run


def drop_defaults(
    values: dict[str, Any], cli_keys: list[str], choices: Mapping[str, Any], defaults: Mapping[str, Any]
) -> None:
    """Remove `model`, `pe` and `positions` from composed values where they are defaults of the configuration.

    cli_keys: the keys that the command line sets.  choices, defaults: group -> name, as composed and as in train.yaml.
    Raises ConfigError if the command line sets a size of the model or its tokenizer, which the weights determine.
    """
    source = values["init_from"]
    for key in cli_keys:
        if (key == "model" or key.startswith("model.")) and key != "model.dropout":
            raise ConfigError(f"{key}: the sizes of the model are those of init_from={source}.\nLeave {key} out")
        if key in ("data.tokenizer", "data.vocab_size") and values["data"]["source"] != "tokens":
            raise ConfigError(f"{key}: the tokenizer is the one of init_from={source}.\nLeave {key} out")
    values["model"] = {"dropout": values["model"]["dropout"]} if "model.dropout" in cli_keys else {}
    for group in ("pe", "positions"):
        overridden = any(key == group or key.startswith(f"{group}.") for key in cli_keys)
        if not overridden and choices.get(group) == defaults[group]:
            del values[group]


def with_checkpoint_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values completed from the folder that `init_from` names. Raises ConfigError or ModelError."""
    from model import init_from

    folder = resolve_run(str(values["init_from"]))
    if not Path(folder).is_dir():
        raise ConfigError(f"init_from={folder}: there is no such folder.\nTry a run folder, or one with a config.json")
    options = init_from.describe(folder)
    positions = options.get("positions", "contiguous")
    return {
        "pe": options["pe"],
        "positions": {"name": positions} if isinstance(positions, str) else positions,
        **values,
        "init_from": folder,
        "model": {**options["model"], "name": model_name(Path(folder)), **values.get("model", {})},
    }


def model_name(folder: Path) -> str:
    """The name of the model in tables: that of the run, or of the checkpoint's folder."""
    config = folder / "config.yaml"
    return yaml.safe_load(config.read_text())["model"]["name"] if config.is_file() else folder.resolve().name
