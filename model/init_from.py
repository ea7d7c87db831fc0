"""Initial weights for training from a run folder or a Hugging Face checkpoint. Torch-free until weights are read."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checkpoint import atomic_dir
from .errors import ModelError
from .old_keys import rename_all

if TYPE_CHECKING:
    from .transformer import Transformer

# Arguments of `build` that record changes of a model after its first training.
EXTENSION_KEYS = ("extension", "extension_length", "trained_length")


def is_run(folder: str | Path) -> bool:
    return (Path(folder) / "checkpoints").is_dir()


def describe(folder: str | Path) -> dict[str, Any]:
    """The arguments of `model.build` for the model in `folder`. Raises ModelError if it has none that can be read."""
    if not is_run(folder):
        from .hf.read_config import describe as describe_checkpoint

        return describe_checkpoint(folder)
    for path in reversed(atomic_dir.list_checkpoints(Path(folder) / "checkpoints").values()):
        try:
            return rename_all(json.loads((path / "state.json").read_text(encoding="utf-8"))["model"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # damaged: `load` reports the damage if no checkpoint is valid
    raise ModelError(f"{folder} has no checkpoint yet.\nTrain it first: python train.py ...")


def load(folder: str | Path) -> "Transformer":
    """The model in `folder`, in evaluation mode."""
    if is_run(folder):
        from .factory import load as load_run

        return load_run(folder)
    from .hf.load import load_hf

    return load_hf(folder)


def init_from_checkpoint(
    folder: str | Path, length: int, model: dict, pe: dict, positions: dict, seed: int, extension: dict | None
) -> "Transformer":
    """A model to be trained on sequences of `length` tokens, with the weights of the model in `folder`.

    model, pe, positions: as for `build`. The parameters of an encoding are copied if the scheme is the same, and drawn
    with `seed` if it is another. extension: applied for `length` tokens; extensions of the source are kept.
    Raises ModelError if the weights do not fit.
    """
    from .checkpoint.state_dict import full_state_dict, load_state_dict
    from .extension.base import extended
    from .factory import build

    source = load(folder)
    changes = {key: value for key, value in source.config.items() if key in EXTENSION_KEYS}
    source_length = source.config["train_length"]  # the length that its encodings were built for
    train_length = source_length if changes or extension else max(source_length, length)
    result = build(source.vocab_size, train_length, model, pe, positions, seed, **changes)
    tensors = full_state_dict(source)
    if result.config["pe"]["scheme"] != source.config["pe"]["scheme"]:
        others = {name: tensor for name, tensor in tensors.items() if not name.startswith("encodings.")}
        tensors = others | {n: t for n, t in full_state_dict(result).items() if n.startswith("encodings.")}
    load_state_dict(tensors, result, folder)
    if extension is not None:
        result = extended(result, extension, length)
    if result.train_length != length:
        result.set_train_length(length)
    return result
