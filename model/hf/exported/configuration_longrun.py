"""Configuration of a Longrun model inside transformers."""

from typing import Any

from transformers import PreTrainedConfig


class LongrunConfig(PreTrainedConfig):
    """longrun: options of Longrun's `model.build`, all settled: sizes, position encoding and plan, extension."""

    model_type = "longrun"

    def __init__(self, longrun: dict[str, Any] | None = None, use_cache: bool = False, **more: Any):
        self.longrun = longrun or {}
        more.setdefault("tie_word_embeddings", False)  # the model itself uses one matrix twice where it is tied
        super().__init__(use_cache=use_cache, **more)


LongrunConfig.register_for_auto_class()
