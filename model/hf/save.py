"""Save a model as a folder for transformers: as a class that computes the same, or else with its own code."""

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
from .config_reader import HFConfig
from .families import FAMILIES
from .family import Family
from .model_spec import ModelSpec
from .remote_code import write_code
from .resolve_spec import resolve_spec


def save_hf(model: Transformer, folder: str | Path, separator: int | None = None) -> str:
    """Write `model` to `folder`; returns its model_type: `llama`, ..., or `longrun` if the folder brings its own code.

    separator: id of the token in front of every document; it becomes bos_token_id and eos_token_id.
    The folder is complete or absent, also after a crash. Raises ModelError if it exists and is not empty.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ModelError(f"{folder} is not empty.\nTry a folder that does not exist yet.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        family, config = native_config(resolve_spec(model.config))
        config |= {"bos_token_id": separator, "eos_token_id": separator, "pad_token_id": None}
        config["dtype"] = str(model.embedding.weight.dtype).removeprefix("torch.")
        if family is None:
            config |= write_code(model, temporary)
        tensors = named_tensors(model, family)
        save_file(tensors, temporary / "model.safetensors", {"format": "pt"})
        (temporary / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        temporary.chmod(0o755)  # mkdtemp makes it private
        temporary.replace(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return config["model_type"]


def native_config(spec: ModelSpec) -> tuple[Family | None, dict[str, Any]]:
    """The first family that computes the same, and its config.json; (None, {}) if there is none.

    A family fits if the config.json that it writes reads as this model again, so no list of its limits is needed.
    """
    for family in FAMILIES:
        if family.write is None or family.architecture is None:
            continue
        config = {"model_type": family.model_type, "architectures": [family.architecture], **family.write(spec)}
        try:
            if resolve_spec(family.read(HFConfig(config, "config.json"))) == spec:
                return family, config
        except ModelError:  # the family cannot describe this model
            continue
    return None, {}


def named_tensors(model: Transformer, family: Family | None) -> dict[str, Tensor]:
    """The tensors of the model under the family's names."""
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
