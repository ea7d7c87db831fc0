"""From a composed configuration to a checked one: types, plug-in options, and numbers that must fit together."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data.options import CorpusOptions
from longrun.base.errors import ConfigError
from longrun.base.suggest import suggest
from longrun.config.eval_overrides import with_protocol_options
from longrun.config.init_from import with_checkpoint_config
from longrun.config.schema import EvalConfig, EvalRunConfig, OptimConfig, TrainConfig, optim_schema
from longrun.config.validate import UnknownKey, build, typed, unknown_choice
from longrun.evaluation.protocols import registry as protocols
from longrun.runs.run_folder import RunFolder, resolve_run
from longrun.training.optimizers import OPTIMIZERS
from model.extension.registry import extensions
from model.pe.registry import resolve
from model.positions.registry import plans


def train_config(values: Mapping[str, Any]) -> TrainConfig:
    """The checked configuration of a training run. Raises ConfigError, ModelError or DataError."""
    from data import dataset

    if values.get("init_from") is not None:
        values = with_checkpoint_config(values)
    if isinstance(values.get("data"), Mapping):
        values = {**values, "data": data_options(values["data"])}
    if isinstance(values.get("optim"), Mapping):
        values = {**values, "optim": optim_options(values["optim"])}
    config: TrainConfig = build(with_protocol_options(TrainConfig), values)
    config.pe = resolve(config.pe)
    config.positions = plans.resolve(config.positions)
    config.extension = extensions.resolve(config.extension)
    check_loop(config)
    check_optim(config.optim)
    check_data(config.data)
    complete_eval(config.eval, config.train.length, "eval.", config.data.source)
    dataset.check(asdict(config.data))
    return config


def eval_config(values: Mapping[str, Any]) -> EvalRunConfig:
    """The checked configuration of an evaluation. Raises ConfigError, ModelError or DataError."""
    config: EvalRunConfig = build(with_protocol_options(EvalRunConfig), values)
    if (config.run is None) == (config.hf is None):
        problem = f"run={config.run} and hf={config.hf}" if config.run else "neither run nor hf is given"
        raise ConfigError(f"{problem}: eval.py measures one model.\nTry run=runs/NAME or hf=FOLDER")
    if config.run is not None:
        config.run = resolve_run(config.run)
    check_model_folder(config)
    if config.hf is not None and not config.data:
        raise ConfigError(f"hf={config.hf} needs a text to be measured on.\nTry data=text data.path=FILE")
    source = config.data.get("source") or stored_config(config).get("data", {}).get("source", "text")
    config.data = typed(data_schema(source), config.data, "data")
    if config.hf is not None:
        options = data_options(config.data)
        check_data(options)
        from data import dataset

        dataset.check(asdict(options))
        if config.out is None and not os.access(config.hf, os.W_OK):
            raise ConfigError(f"hf={config.hf}: the results would go there, and it is not writable.\nTry out=results")
    config.extension = extensions.resolve(config.extension)
    config.extensions = config.extensions or [config.extension]
    config.train_length = config.train_length or trained_length(config)
    complete_eval(config, config.train_length, "", source)
    return config


def data_schema(source: Any) -> type:
    """The dataclass of the options of a text source or a task."""
    from data import dataset

    return dataset.options_class(source)


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
    """Raise ConfigError if the folder of the model does not exist or does not hold one."""
    key, name, file = ("run", config.run, "config.yaml") if config.run else ("hf", config.hf, "config.json")
    folder = Path(str(name))
    if (folder / file).is_file():
        return
    problem = "has no " + file if folder.is_dir() else "does not exist"
    inside = sorted(path.parent.name for path in folder.glob(f"*/{file}"))
    others = sorted(path.parent.name for path in folder.parent.glob(f"*/{file}"))
    near = suggest(folder.name, others) or others[:3]
    hint = f"Beside it: {', '.join(near)}" if near else f"Try {key}=FOLDER with a {file} in it"
    if inside:
        hint = f"In it: {', '.join(inside[:3])}" + (f", ... ({len(inside)} in all)" if inside[3:] else "")
    raise ConfigError(f"{key}={name}: this folder {problem}.\n{hint}")


def stored_config(config: EvalRunConfig) -> dict[str, Any]:
    """The configuration in the model's own folder."""
    if config.run is not None:
        return RunFolder(Path(config.run)).config()
    return json.loads((Path(str(config.hf)) / "config.json").read_text())


def trained_length(config: EvalRunConfig) -> int:
    """The length the model was trained at, from its own configuration."""
    if config.run is not None:
        return stored_config(config)["train"]["length"]
    from model import init_from  # imports torch

    description = init_from.describe(str(config.hf))
    return description.get("trained_length") or description["train_length"]


def complete_eval(options: EvalConfig, train_length: int, prefix: str, source: str) -> None:
    """Fill in the defaults that depend on the data and the training length.

    Raises ConfigError if the shortest window is shorter than the tokens that the protocol scores in it.
    """
    from data import dataset

    defaults = dataset.dataset_class(source)
    options.protocol = options.protocol or defaults.protocol
    options.ratios = options.ratios or list(defaults.ratios)
    options.extensions = [extensions.resolve(each) for each in options.extensions or ["none"]]
    lengths = options.resolved_lengths(train_length)
    protocol = protocols.from_config(options).with_defaults(lengths)
    for name, item in protocol.declared().items():
        value = getattr(protocol, name)
        setattr(options, name, value)
        if item.metadata["within_window"] and value is not None and value > lengths[0]:
            raise ConfigError(
                f"{prefix}{name}={value} does not fit into the shortest window, {lengths[0]} tokens.\n"
                f"Try {prefix}{name}={lengths[0]}, or longer windows: '{prefix}lengths=[{value},{2 * value}]'"
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
