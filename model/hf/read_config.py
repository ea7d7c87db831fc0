"""The options of `model.build` for a folder's config.json. Torch-free, so that command lines can use it."""

from pathlib import Path
from typing import Any

from ..errors import ModelError
from .config_reader import HFConfig
from .families import FAMILIES
from .family import Family


def describe(folder: str | Path, train_length: int | None = None) -> dict[str, Any]:
    """Options of `model.build` for the checkpoint in `folder`.

    train_length: tokens per sequence in training, if config.json has another value. A scaling of rotary positions that
    is part of the checkpoint keeps the length that defines it.
    Raises ModelError for another kind of model, and for an equation that Longrun does not implement.
    """
    config = HFConfig.read(folder)
    options = family_of(config).read(config)
    if train_length is not None:
        options["trained_length" if "extension" in options else "train_length"] = train_length
    return options


def family_of(config: HFConfig) -> Family:
    """The family of a config.json, by its model_type. Raises ModelError if it is quantised or not supported."""
    if config.get("quantization_config") is not None:
        raise ModelError(
            f"{config.where} has a quantization_config: its tensors are not weights.\nUse the unquantised checkpoint."
        )
    model_type = config.get("model_type")
    family = next((family for family in FAMILIES if family.model_type == model_type), None)
    if family is None:
        supported = ", ".join(family.model_type for family in FAMILIES)
        raise ModelError(
            f"{config.where}: model_type={model_type} is not one that Longrun reads.\nThere are: {supported}."
        )
    return family
