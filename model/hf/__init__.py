"""Import and export of Hugging Face checkpoints: `from model.hf import load_hf, save_hf`. Lazy, like `model`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .load import load_hf as load_hf
    from .save import save_hf as save_hf


def __getattr__(name: str):
    if name == "load_hf":
        from .load import load_hf

        return load_hf
    if name == "save_hf":
        from .save import save_hf

        return save_hf
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
