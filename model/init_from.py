"""What training can begin with: a run of ours, or a Hugging Face checkpoint. Torch-free until weights are read."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checkpoint import atomic_dir
from .errors import ModelError

if TYPE_CHECKING:
    from .transformer import Transformer

LATER = ("extension", "extension_length", "trained_length")  # options of `build` for what was done to a trained model


def is_run(folder: str | Path) -> bool:
    return (Path(folder) / "checkpoints").is_dir()


def describe(folder: str | Path) -> dict[str, Any]:
    """Options of `model.build` for the model in `folder`. Raises ModelError if there is none that we can read."""
    if not is_run(folder):
        from .hf.read_config import describe as describe_checkpoint

        return describe_checkpoint(folder)
    for path in reversed(atomic_dir.entries(Path(folder) / "checkpoints").values()):
        try:
            return json.loads((path / "state.json").read_text(encoding="utf-8"))["model"]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # damaged: `load` says what is wrong if there is no whole one
    raise ModelError(f"{folder} has no checkpoint yet.\nTrain it first: python train.py ...")


def load(folder: str | Path) -> "Transformer":
    """The model in `folder`, in evaluation mode."""
    if is_run(folder):
        from .factory import load as load_run

        return load_run(folder)
    from .hf.load import load_hf

    return load_hf(folder)


def begin(
    folder: str | Path, length: int, model: dict, pe: dict, positions: dict, seed: int, extension: dict | None
) -> "Transformer":
    """A model to be trained on sequences of `length` tokens, with the weights of the one in `folder`.

    model, pe, positions: as for `build`; the parameters of an encoding come along if its scheme stays, and are drawn
    if it is another one. extension: put on for `length` tokens. What the model in `folder` has of its own stays.
    Raises ModelError if the weights do not fit.
    """
    from .checkpoint.state_dict import apply_model, model_tensors
    from .extension.base import extended
    from .factory import build

    origin = load(folder)
    own = {key: value for key, value in origin.config.items() if key in LATER}
    first = origin.config["train_length"]  # what its encodings were made for
    trained = first if own or extension else max(first, length)
    made = build(origin.vocab_size, trained, model, pe, positions, seed, **own)
    tensors = model_tensors(origin)
    if made.config["pe"]["scheme"] != origin.config["pe"]["scheme"]:
        kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("encodings.")}
        tensors = kept | {n: t for n, t in model_tensors(made).items() if n.startswith("encodings.")}
    apply_model(tensors, made, folder)
    if extension is not None:
        made = extended(made, extension, length)
    if made.train_length != length:
        made.set_train_length(length)
    return made
