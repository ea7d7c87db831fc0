"""Runs that begin with the weights of another model (`init_from`): what they inherit of it unless it was said."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from longrun.base.errors import ConfigError
from longrun.config import overrides
from longrun.runs.run_folder import resolve_run

ORIGIN = "model.init_from"  # named, not imported: configs/ depends on nothing of model/ that knows about weights


def leave_out_defaults(values: dict[str, Any], said: list[str], choices: Mapping[str, Any]) -> None:
    """Remove `model`, `pe` and `positions` from composed values where they are defaults that nobody chose.

    said: the keys that the command line sets.  choices: group -> name, as composed.
    Raises ConfigError if the sizes of the model or its tokenizer were said: those of the weights are what they are.
    """
    for key in said:
        if (key == "model" or key.startswith("model.")) and key != "model.dropout":
            raise ConfigError(
                f"{key}: the sizes of the model are those of init_from={values['init_from']}.\nLeave {key} out"
            )
        if key in ("data.tokenizer", "data.vocab_size") and values["data"]["source"] != "tokens":
            raise ConfigError(
                f"{key}: text becomes tokens as init_from={values['init_from']} knows them.\nLeave {key} out"
            )
    dropout = {"dropout": values["model"]["dropout"]} if "model.dropout" in said else {}
    values["model"] = dropout
    usual = overrides.groups("train")
    for group in ("pe", "positions"):
        chosen = any(key == group or key.startswith(f"{group}.") for key in said) or choices.get(group) != usual[group]
        if not chosen:
            del values[group]


def inherited(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values completed from the folder that `init_from` names. Raises ConfigError or ModelError."""
    given = resolve_run(str(values["init_from"]))
    if not Path(given).is_dir():
        raise ConfigError(f"init_from={given}: there is no such folder.\nTry a run folder, or one with a config.json")
    options = importlib.import_module(ORIGIN).describe(given)
    positions = options.get("positions", "contiguous")
    return {
        "pe": options["pe"],
        "positions": {"name": positions} if isinstance(positions, str) else positions,
        **values,
        "init_from": given,
        "model": {**options["model"], "name": model_name(Path(given)), **values.get("model", {})},
    }


def model_name(folder: Path) -> str:
    """What tables call the model: as the run did, or the folder of the checkpoint."""
    config = folder / "config.yaml"
    return yaml.safe_load(config.read_text())["model"]["name"] if config.is_file() else folder.resolve().name
