"""From options to a model, and from a run folder back to one."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from . import distributed
from .checkpoint.state_dict import apply_model, model_tensors
from .config import ModelConfig
from .errors import ModelError
from .extension.base import extended
from .init import initialise
from .pe.registry import encodings_for, schemes
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

    model: options of `ModelConfig`.  pe, positions: a name, or {"name": NAME, option: value, ...}; options that are
    missing come from configs/pe/NAME.yaml and configs/positions/NAME.yaml.
    extension: put on the encodings for sequences of `extension_length` tokens, as `extended` does to a trained model.
    trained_length: the training length since then, where the model was trained on after it was extended.
    Raises ModelError for unknown names, unknown or mistyped options, and sizes that do not fit together.
    """
    config = model_config(model or {})
    shape = config.shape(train_length)
    pe, positions = schemes.resolve(pe), plans.resolve(positions)
    network = Transformer(config, shape, vocab_size, encodings_for(shape, pe), plans.create(shape, positions))
    check_positions(network, pe["name"], positions["name"])
    network.config = {
        "vocab_size": vocab_size,
        "train_length": train_length,
        "model": asdict(config),
        "pe": pe,
        "positions": positions,
    }
    if extension is not None:
        network = extended(network, extension, train_length if extension_length is None else extension_length)
    if trained_length is not None:
        network.set_train_length(trained_length)
    initialise(network, seed)
    return network


def check_positions(network: Transformer, pe: str, positions: str) -> None:
    """Refuse a position plan that hands out what the encodings have no code for."""
    components = [component for encoding in network.encodings for component in encoding.components()]
    if network.plan.fractional and any(
        component.integer_positions or component.max_positions is not None for component in components
    ):
        raise ModelError(
            f"positions={positions} gives fractions, and pe={pe} looks whole positions up.\n"
            f"Try pe=rope or pe=sinusoidal, or positions=randomised"
        )
    if network.plan.ids > 1 and not all(component.position_axes for component in components):
        raise ModelError(
            f"positions={positions} gives every token two numbers, and pe={pe} reads one.\n"
            f"Try pe=bipe or pe=rope_2d, or positions=contiguous"
        )
    for component in components:
        rows = component.max_positions
        end = network.plan.end(network.train_length, training=True, which=component.primary_axis)
        if rows is not None and end > rows:
            raise ModelError(
                f"positions={positions} goes up to position {end - 1}, and pe={pe} has {rows} positions.\n"
                f"Give the encoding {end} positions, or try positions=contiguous"
            )


def model_config(options: dict[str, Any]) -> ModelConfig:
    known = [field.name for field in fields(ModelConfig)]
    for key in options:
        if key not in known:
            raise ModelError(unknown(f"model.{key}", options[key], known, "option of the model"))
    return ModelConfig(**options)


def load(run: str | Path, **facts: object) -> Transformer:
    """The model of a run folder: its newest valid checkpoint, in evaluation mode.

    facts: what it must have been saved with (see `Checkpoint.require`), such as the tokenizer's digest.
    """
    from .checkpoint.files import load_model, newest

    folder = Path(run)
    checkpoint = newest(folder / "checkpoints")
    if checkpoint is None:
        raise ModelError(
            f"run={folder}: no checkpoint in {folder / 'checkpoints'}.\nTrain it first: python train.py ..."
        )
    checkpoint.require(**facts)
    network = _unfilled(checkpoint.state["model"], "cpu")
    load_model(checkpoint, network)
    return network.eval()


def whole(model: Transformer) -> Transformer:
    """`model` itself, or of a model that FSDP shards a copy that needs no other rank. To be called on every rank."""
    if not distributed.sharded(model):
        return model
    tensors = model_tensors(model)
    network = _unfilled(model.config, model.embedding.weight.device)
    apply_model(tensors, network, "the sharded model")
    return network.train(model.training)


def _unfilled(config: dict[str, Any], device: torch.device | str) -> Transformer:
    """A model whose parameters hold anything; nothing was drawn for them."""
    with torch.device("meta"):
        network = build(**config)
    return network.to_empty(device=device)
