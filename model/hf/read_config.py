"""What a folder's config.json says, as the options of `model.build`. Torch-free, so that a command line can ask."""

from pathlib import Path
from typing import Any

from ..errors import ModelError
from .config_reader import Settings
from .families import FAMILIES
from .family import Family


def describe(folder: str | Path, train_length: int | None = None) -> dict[str, Any]:
    """Options of `model.build` for the checkpoint in `folder`.

    train_length: tokens it was trained with, if config.json says otherwise. A scaling of rotary positions that is
    part of the checkpoint keeps the length that it is defined by.
    Raises ModelError for a checkpoint of another kind, and for one that our model has no equation for.
    """
    settings = Settings.read(folder)
    options = family_of(settings).read(settings)
    if train_length is not None:
        options["trained_length" if "extension" in options else "train_length"] = train_length
    return options


def family_of(settings: Settings) -> Family:
    if settings.get("quantization_config") is not None:
        raise ModelError(
            f"{settings.where} has a quantization_config: its tensors are not weights.\nUse the unquantised checkpoint."
        )
    kind = settings.get("model_type")
    found = next((family for family in FAMILIES if family.model_type == kind), None)
    if found is None:
        known = ", ".join(family.model_type for family in FAMILIES)
        raise ModelError(f"{settings.where}: model_type={kind} is not one that Longrun reads.\nThere are: {known}.")
    return found
