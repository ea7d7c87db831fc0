"""Baichuan 1 and 2: Llama's block with one matrix for queries, keys and values. 7B is rotary, 13B has ALiBi.

Nothing in config.json names the encoding; only the rotary model has `max_position_embeddings`. Baichuan 2 normalises
the rows of its output layer, and nothing but its vocabulary tells it from Baichuan 1.
"""

from typing import Any

from ..config_reader import Settings
from ..family import Family, table
from ..rope import rotary
from ..weight_map import Same
from .llama import LAYER, RULES, block

SECOND_VOCABULARY = 125_696


class Head(Same):
    """The output layer, with rows of length 1 in Baichuan 2."""

    def load(self, tensors, shape):
        (weight,) = tensors
        second = len(weight) == SECOND_VOCABULARY
        return weight.float() / weight.float().norm(dim=1, keepdim=True).clamp(min=1e-12) if second else weight


def read(settings: Settings) -> dict[str, Any]:
    model, vocabulary = block(settings), settings.whole("vocab_size")
    if settings.get("max_position_embeddings") is None:
        length = settings.whole("model_max_length")
        return {"vocab_size": vocabulary, "train_length": length, "model": model, "pe": {"name": "baichuan_13b"}}
    turning = rotary(settings, model["head_dim"])
    return {"vocab_size": vocabulary, "model": model, "pe": turning.options(name="baichuan_7b"), **turning.lengths()}


PACKED = {"layers.{n}.attention.qkv.weight": Same(f"{LAYER}.self_attn.W_pack.weight")}
FAMILY = Family("baichuan", None, read, None, table(RULES | PACKED | {"head.weight": Head("lm_head.weight")}))
