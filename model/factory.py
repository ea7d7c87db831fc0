"""Models built from options, and loaded from run folders."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from . import distributed
from .checkpoint.state_dict import full_state_dict, load_state_dict
from .config import ModelConfig
from .errors import ModelError
from .extension.base import extended
from .init import initialise
from .old_keys import OLD_KEYS, rename_all
from .pe.registry import build_encodings, schemes
from .positions.registry import plans
from .registry import Part, unknown
from .transformer import Transformer


def build(
    vocab_size: int,
    train_length: int,
    model: dict[str, Any] | None = None,
    pe: Part = "nope",
    positions: Part = "contiguous",
    seed: int = 0,
    extension: Part | None = None,
    extension_length: int | None = None,
    trained_length: int | None = None,
) -> Transformer:
    """A freshly initialised model.

    model: options of `ModelConfig`.  pe, positions: a name, or {"name": NAME, option: value, ...}; missing options come
    from configs/pe/NAME.yaml and configs/positions/NAME.yaml.
    extension: applied to the encodings for sequences of `extension_length` tokens, as `extended` does after training.
    trained_length: the new training length, if the model was trained on after it was extended.
    Raises ModelError for unknown names, unknown or mistyped options, and sizes that do not fit together.
    """
    config = model_config(model or {})
    shape = config.shape(train_length)
    pe, positions = schemes.resolve(pe), plans.resolve(positions)
    result = Transformer(config, shape, vocab_size, build_encodings(shape, pe), plans.build(shape, positions))
    check_positions(result, pe["name"], positions["name"])
    result.config = {
        "vocab_size": vocab_size,
        "train_length": train_length,
        "model": asdict(config),
        "pe": pe,
        "positions": positions,
    }
    if extension is not None:
        result = extended(result, extension, train_length if extension_length is None else extension_length)
    if trained_length is not None:
        result.set_train_length(trained_length)
    initialise(result, seed)
    return result


def check_positions(model: Transformer, pe: str, positions: str) -> None:
    """Raises ModelError if the encodings do not support the position ids of the plan. pe, positions: their names."""
    components = model.components()
    if model.plan.fractional and any(c.integer_positions or c.max_positions is not None for c in components):
        raise ModelError(
            f"positions={positions} yields fractions, and pe={pe} needs integer positions.\n"
            f"Try pe=rope or pe=sinusoidal, or positions=randomised"
        )
    if model.plan.ids > 1 and not all(component.position_axes for component in components):
        raise ModelError(
            f"positions={positions} yields two position ids per token, and pe={pe} reads one.\n"
            f"Try pe=bipe or pe=rope_2d, or positions=contiguous"
        )
    for component in components:
        rows = component.max_positions
        end = model.plan.end(model.train_length, training=True, which=component.primary_axis)
        if rows is not None and end > rows:
            raise ModelError(
                f"positions={positions} goes up to position {end - 1}, and pe={pe} has {rows} positions.\n"
                f"Give the encoding {end} positions, or try positions=contiguous"
            )


def model_config(options: dict[str, Any]) -> ModelConfig:
    """Options by name, checked. Raises ModelError for an unknown one, and for an old name of a renamed one."""
    names = [field.name for field in fields(ModelConfig)]
    for key in options:
        if f"model.{key}" in OLD_KEYS:
            raise ModelError(
                f"model.{key}={options[key]}: model.{key} was renamed, write {OLD_KEYS[f'model.{key}']}={options[key]}"
            )
        if key not in names:
            raise ModelError(unknown(f"model.{key}", options[key], names, "option of the model"))
    return ModelConfig(**options)


def load(run: str | Path, **facts: object) -> Transformer:
    """The model of a run folder from its newest valid checkpoint, in evaluation mode.

    facts: values that it must have been saved with (see `Checkpoint.require`), such as the tokenizer's digest.
    Raises ModelError if there is no checkpoint, if all are damaged, and for facts that differ.
    """
    from .checkpoint.files import load_model, newest

    folder = Path(run)
    checkpoint = newest(folder / "checkpoints")
    if checkpoint is None:
        raise ModelError(
            f"run={folder}: no checkpoint in {folder / 'checkpoints'}.\nTrain it first: python train.py ..."
        )
    checkpoint.require(**facts)
    model = _empty_model(rename_all(checkpoint.state["model"]), "cpu")
    load_model(checkpoint, model)
    return model.eval()


def gather_full_model(model: Transformer) -> Transformer:
    """`model` itself, or an unsharded copy of a model that FSDP shards. Collective: call it on every rank."""
    if not distributed.is_sharded(model):
        return model
    tensors = full_state_dict(model)
    full = _empty_model(model.config, model.embedding.weight.device)
    load_state_dict(tensors, full, "the sharded model")
    return full.train(model.training)


def _empty_model(options: dict[str, Any], device: torch.device | str) -> Transformer:
    """A model with uninitialised parameters. options: the arguments of `build`."""
    with torch.device("meta"):
        model = build(**options)
    return model.to_empty(device=device)
