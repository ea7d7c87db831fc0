"""Baichuan 1 and 2: Llama's block with one matrix for queries, keys and values. 7B is rotary, 13B has ALiBi.

config.json does not name the encoding; only the rotary model has `max_position_embeddings`. Baichuan 2 normalises the
rows of its output layer, and differs from Baichuan 1 only in the size of the vocabulary.
"""

from typing import Any

from ..config_reader import HFConfig
from ..family import Family, table
from ..rope import read_rotary
from ..weight_map import Rename
from .llama import LAYER, RULES, block

SECOND_VOCABULARY = 125_696


class Head(Rename):
    """The output layer, with rows of length 1 in Baichuan 2."""

    def load(self, tensors, shape):
        (weight,) = tensors
        second = len(weight) == SECOND_VOCABULARY
        return weight.float() / weight.float().norm(dim=1, keepdim=True).clamp(min=1e-12) if second else weight


def read(config: HFConfig) -> dict[str, Any]:
    model, vocabulary = block(config), config.integer("vocab_size")
    if config.get("max_position_embeddings") is None:
        length = config.integer("model_max_length")
        return {"vocab_size": vocabulary, "train_length": length, "model": model, "pe": {"name": "baichuan_13b"}}
    rotation = read_rotary(config, model["head_dim"])
    return {"vocab_size": vocabulary, "model": model, "pe": rotation.options(name="baichuan_7b"), **rotation.lengths()}


PACKED = {"layers.{n}.attention.qkv.weight": Rename(f"{LAYER}.self_attn.W_pack.weight")}
FAMILY = Family("baichuan", None, read, None, table(RULES | PACKED | {"head.weight": Head("lm_head.weight")}))
