"""Configuration keys that were renamed. Files written under the old names are read with the new ones.

The command line refuses an old key and names the new one. A run folder's config.yaml, a checkpoint's stored options and
a config.json are renamed when they are read. The fingerprint of a run is taken over the old names, so that a run keeps
its folder.
"""

from collections.abc import Mapping
from typing import Any

OLD_KEYS: dict[str, str] = {  # old dotted key -> new dotted key, in the same section
    "optim.final_lr": "optim.min_lr_ratio",
    "train.parallel": "train.data_parallel",
    "model.hidden": "model.ffn_width",
    "model.parallel": "model.parallel_residual",
    "model.sandwich": "model.post_norm",
}


def renamed(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of one section ("model", "optim", ...) under their new names, in the same order."""
    return _replace(section, values, OLD_KEYS)


def rename_all(config: Mapping[str, Any]) -> dict[str, Any]:
    """A whole configuration {"model": {...}, "train": {...}, ...} under the new names."""
    return {key: renamed(key, value) if isinstance(value, Mapping) else value for key, value in config.items()}


def with_old_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """A whole configuration under the old names: the input of a run's fingerprint."""
    old = {new: old for old, new in OLD_KEYS.items()}
    return {key: _replace(key, value, old) if isinstance(value, Mapping) else value for key, value in config.items()}


def _replace(section: str, values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """A key may contain dots itself, as a file name in a manifest does."""
    return {
        names.get(f"{section}.{key}", f"{section}.{key}").removeprefix(f"{section}."): v for key, v in values.items()
    }
