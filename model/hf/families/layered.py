"""Shared by families whose layers differ: a window in some, no positions in others."""

from typing import Any

from ..config_reader import HFConfig
from ..model_spec import ModelSpec

FULL, SLIDING = "full_attention", "sliding_attention"


def sliding(config: HFConfig) -> int | None:
    """Size of the window. null is none; if the key is missing it is 4,096 in all of these families."""
    return config.integer("sliding_window", default=None if "sliding_window" in config else 4096)


def windows(config: HFConfig, layers: int, first: int) -> list[int | None]:
    """Size of the window of each layer, None for full attention. first: the first windowed layer by default."""
    size = sliding(config)
    if size is None or not config.flag("use_sliding_window", default=False):
        return [None] * layers
    usual = [SLIDING if layer >= first else FULL for layer in range(layers)]
    kinds = config.get("layer_types", default=usual)
    if not isinstance(kinds, list) or len(kinds) != layers or not set(kinds) <= {FULL, SLIDING}:
        config.refuse(["layer_types"], f"{layers} times {FULL} or {SLIDING}")
    return [size if kind == SLIDING else None for kind in kinds]


def schedule(encodings: list[dict[str, Any]], name: str = "schedule") -> dict[str, Any]:
    """One encoding for all layers if they are equal, else a schedule that lists them."""
    alike = all(encoding == encodings[0] for encoding in encodings)
    return encodings[0] if alike else {"name": name, "pattern": encodings}


def windowed(encoding: dict[str, Any], size: int | None) -> dict[str, Any]:
    """The encoding, in a window if `size` is not None."""
    return encoding if size is None else {"name": "rope_window", "parts": [encoding, {"name": "window", "size": size}]}


def window_keys(spec: ModelSpec) -> dict[str, Any]:
    """The reverse of `windows`."""
    size = spec.first("window").get("size")
    kinds = [SLIDING if "parts" in encoding else FULL for encoding in spec.encodings]
    return {"use_sliding_window": size is not None, "sliding_window": size, "layer_types": kinds}
