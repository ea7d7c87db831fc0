"""From a composed configuration to a checked one: types, plug-in options, and numbers that must fit together."""

import importlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data.options import CorpusOptions
from longrun.base.errors import ConfigError
from longrun.base.suggest import suggest
from longrun.config.eval_overrides import DATASET
from longrun.config.init_from import with_checkpoint_config
from longrun.config.schema import EvalConfig, EvalRunConfig, OptimConfig, TrainConfig, optim_schema
from longrun.config.validate import UnknownKey, build, typed, unknown_choice
from longrun.runs.run_folder import RunFolder, resolve_run
from longrun.training.optimizers import OPTIMIZERS
from model.extension.registry import extensions
from model.pe.registry import resolve
from model.positions.registry import plans

# Named, not imported: a check that would import torch has no place in front of one that would not.
ORIGIN = "model.init_from"


def train_config(values: Mapping[str, Any]) -> TrainConfig:
    """The checked configuration of a training run. Raises ConfigError, ModelError or DataError."""
    if values.get("init_from") is not None:
        values = with_checkpoint_config(values)
    if isinstance(values.get("data"), Mapping):
        values = {**values, "data": data_options(values["data"])}
    if isinstance(values.get("optim"), Mapping):
        values = {**values, "optim": optim_options(values["optim"])}
    config = build(TrainConfig, values)
    config.pe = resolve(config.pe)
    config.positions = plans.resolve(config.positions)
    config.extension = extensions.resolve(config.extension)
    check_loop(config)
    check_optim(config.optim)
    check_data(config.data)
    complete_eval(config.eval, config.train.length, "eval.", config.data.source)
    importlib.import_module(DATASET).check(asdict(config.data))
    return config


def eval_config(values: Mapping[str, Any]) -> EvalRunConfig:
    """The checked configuration of an evaluation. Raises ConfigError, ModelError or DataError."""
    config = build(EvalRunConfig, values)
    if (config.run is None) == (config.hf is None):
        given = f"run={config.run} and hf={config.hf}" if config.run else "neither run nor hf is given"
        raise ConfigError(f"{given}: eval.py measures one model.\nTry run=runs/NAME or hf=FOLDER")
    if config.run is not None:
        config.run = resolve_run(config.run)
    check_model_folder(config)
    if config.hf is not None and not config.data:
        raise ConfigError(f"hf={config.hf} says nothing about its text.\nTry data=text data.path=FILE")
    source = config.data.get("source") or stored(config).get("data", {}).get("source", "text")
    config.data = typed(data_schema(source), config.data, "data")
    if config.hf is not None:
        options = data_options(config.data)
        check_data(options)
        importlib.import_module(DATASET).check(asdict(options))
        if config.out is None and not os.access(config.hf, os.W_OK):
            raise ConfigError(f"hf={config.hf}: the results would go there, and it cannot be written.\nTry out=results")
    config.extension = extensions.resolve(config.extension)
    config.extensions = config.extensions or [config.extension]
    config.train_length = config.train_length or trained_length(config)
    complete_eval(config, config.train_length, "", source)
    return config


def data_schema(source: Any) -> type:
    """The dataclass of the options of a text source or a task."""
    return importlib.import_module(DATASET).options_class(source)


def data_options(values: Mapping[str, Any]) -> Any:
    """The checked options of the data, those of its tokenizer included. Raises ConfigError or DataError."""
    from data import dataset

    values = dataset.complete(dict(values))
    choice = values.get("tokenizer")
    if isinstance(choice, dict):
        own = {key: value for key, value in choice.items() if key != "name"}
        own = typed(dataset.trainer_class(choice), own, "data.tokenizer")
        values = {**values, "tokenizer": {"name": choice["name"], **own}}
    return build(data_schema(values.get("source")), values, "data")


def check_model_folder(config: EvalRunConfig) -> None:
    key, given, file = ("run", config.run, "config.yaml") if config.run else ("hf", config.hf, "config.json")
    folder = Path(str(given))
    if (folder / file).is_file():
        return
    what = "has no " + file if folder.is_dir() else "does not exist"
    inside = sorted(path.parent.name for path in folder.glob(f"*/{file}"))
    others = sorted(path.parent.name for path in folder.parent.glob(f"*/{file}"))
    near = suggest(folder.name, others) or others[:3]
    hint = f"Beside it: {', '.join(near)}" if near else f"Try {key}=FOLDER with a {file} in it"
    if inside:
        hint = f"In it: {', '.join(inside[:3])}" + (f", ... ({len(inside)} in all)" if inside[3:] else "")
    raise ConfigError(f"{key}={given}: this folder {what}.\n{hint}")


def stored(config: EvalRunConfig) -> dict[str, Any]:
    """The configuration in the model's own folder."""
    if config.run is not None:
        return RunFolder(Path(config.run)).config()
    return json.loads((Path(str(config.hf)) / "config.json").read_text())


def trained_length(config: EvalRunConfig) -> int:
    """The length the model was trained at, from its own configuration."""
    if config.run is not None:
        return stored(config)["train"]["length"]
    found = importlib.import_module(ORIGIN).describe(config.hf)
    return found.get("trained_length") or found["train_length"]


def complete_eval(options: EvalConfig, train_length: int, prefix: str, source: str) -> None:
    """Fill in what depends on the data and the training length, and refuse windows that are shorter than what is to be
    scored in them."""
    usual = importlib.import_module(DATASET).dataset_class(source)
    options.protocol = options.protocol or usual.protocol
    options.ratios = options.ratios or list(usual.ratios)
    options.extensions = [extensions.resolve(each) for each in options.extensions or ["none"]]
    shortest = options.resolved_lengths(train_length)[0]
    options.targets = options.resolved_targets(train_length)
    wanted = {"fixed_targets": "targets", "last_k": "k", "sliding": "stride"}.get(options.protocol or "")
    given = getattr(options, wanted) if wanted else None
    if given is not None and given > shortest:
        raise ConfigError(
            f"{prefix}{wanted}={given} does not fit into the shortest window, {shortest} tokens.\n"
            f"Try {prefix}{wanted}={shortest}, or longer windows: '{prefix}lengths=[{given},{2 * given}]'"
        )


def optim_options(values: Mapping[str, Any]) -> OptimConfig:
    """The typed options of an optimizer. Raises ConfigError, naming the YAML file that has an unknown name."""
    if "name" not in values or values["name"] in OPTIMIZERS:
        return build(optim_schema(values["name"]) if "name" in values else OptimConfig, values, "optim")
    try:
        return build(OptimConfig, values, "optim")
    except UnknownKey:  # an option of the optimizer that was meant
        raise unknown_choice("optim.name", values["name"], list(OPTIMIZERS)) from None


def check_loop(config: TrainConfig) -> None:
    loop = config.train
    if loop.micro_batch and loop.batch % loop.micro_batch:
        fitting = max(n for n in range(1, loop.micro_batch + 1) if loop.batch % n == 0)
        raise ConfigError(
            f"train.batch={loop.batch} is not a multiple of train.micro_batch={loop.micro_batch}: "
            f"every forward pass has the same size.\nTry train.micro_batch={fitting}"
        )


def check_optim(optim: OptimConfig) -> None:
    if len(optim.betas) != 2:
        raise ConfigError(f"optim.betas={optim.betas}: expected two numbers.\nTry 'optim.betas=[0.9,0.95]'")
    both = optim.warmup_fraction + optim.decay_fraction
    if optim.schedule == "wsd" and both > 1:
        raise ConfigError(
            f"optim.warmup_fraction={optim.warmup_fraction} and optim.decay_fraction={optim.decay_fraction} "
            f"are more than the whole run.\nTheir sum must be at most 1"
        )


def check_data(data: Any) -> None:
    if isinstance(data, CorpusOptions) and data.valid_fraction + data.test_fraction >= 1:
        raise ConfigError(
            f"data.valid_fraction={data.valid_fraction} and data.test_fraction={data.test_fraction} "
            f"leave nothing to train on.\nTheir sum must be less than 1"
        )
