"""What `save_hf` writes for a model that transformers has no class for: our own options and names behind a prefix."""

from typing import Any

from ...old_keys import rename_all
from ..config_reader import Settings
from ..family import Family, prefixed

KEYS = ("vocab_size", "train_length", "model", "pe", "positions", "extension", "extension_length", "trained_length")


def read(settings: Settings) -> dict[str, Any]:
    ours = settings.part("longrun")
    options = {key: ours.get(key) for key in KEYS if key in ours}
    return rename_all(options) | {key: ours.whole(key) for key in ("vocab_size", "train_length")}


FAMILY = Family("longrun", None, read, None, prefixed("network."))
