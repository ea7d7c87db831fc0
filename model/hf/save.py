"""A model of ours as a folder for transformers: of a class it has where one computes the same, else with its code."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..checkpoint.state_dict import full_state_dict
from ..errors import ModelError
from ..transformer import Transformer
from .config_reader import Settings
from .families import FAMILIES
from .family import Family
from .model_spec import Outline
from .remote_code import write_code
from .resolve_spec import outline


def save_hf(model: Transformer, folder: str | Path, separator: int | None = None) -> str:
    """Write `model` to `folder`; returns its model_type: `llama`, ..., or `longrun` if the folder brings its own code.

    separator: id of the token in front of every document; it becomes bos_token_id and eos_token_id.
    The folder appears whole or not at all. Raises ModelError if there is something in it already.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ModelError(f"{folder} is not empty.\nTry a folder that does not exist yet.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        family, config = native(outline(model.config))
        config |= {"bos_token_id": separator, "eos_token_id": separator, "pad_token_id": None}
        config["dtype"] = str(model.embedding.weight.dtype).removeprefix("torch.")
        if family is None:
            config |= write_code(model, temporary)
        tensors = named(model, family)
        save_file(tensors, temporary / "model.safetensors", {"format": "pt"})
        (temporary / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        temporary.chmod(0o755)  # mkdtemp makes it private
        temporary.replace(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return config["model_type"]


def native(wanted: Outline) -> tuple[Family | None, dict[str, Any]]:
    """The first family that computes the same, and its config.json; (None, {}) if there is none.

    A family fits if what it writes for this model reads as this model: nobody lists what each of them lacks.
    """
    for family in FAMILIES:
        if family.write is None or family.architecture is None:
            continue
        config = {"model_type": family.model_type, "architectures": [family.architecture], **family.write(wanted)}
        try:
            if outline(family.read(Settings(config, "config.json"))) == wanted:
                return family, config
        except ModelError:  # it has no words for this model
            continue
    return None, {}


def named(model: Transformer, family: Family | None) -> dict[str, Tensor]:
    """The model's tensors under the family's names."""
    ours = full_state_dict(model)
    if family is None:
        return {f"network.{name}": tensor for name, tensor in ours.items()}
    named: dict[str, Tensor] = {}
    for name, tensor in ours.items():
        rule = family.rule(name)
        assert rule is not None, f"{family.model_type} has no rule for {name}"
        for theirs, part in zip(rule.names, rule.save(tensor, model.shape), strict=True):
            named[theirs] = part.contiguous().clone(memory_format=torch.contiguous_format)
    return named
