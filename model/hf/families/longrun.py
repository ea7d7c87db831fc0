"""The format of `save_hf` for a model without a class in transformers: our options, and our names behind a prefix."""

from typing import Any

from ...old_keys import rename_all
from ..config_reader import HFConfig
from ..family import Family, prefixed

KEYS = ("vocab_size", "train_length", "model", "pe", "positions", "extension", "extension_length", "trained_length")


def read(config: HFConfig) -> dict[str, Any]:
    ours = config.section("longrun")
    options = {key: ours.get(key) for key in KEYS if key in ours}
    return rename_all(options) | {key: ours.integer(key) for key in ("vocab_size", "train_length")}


FAMILY = Family("longrun", None, read, None, prefixed("network."))
