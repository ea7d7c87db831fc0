"""Supported architectures, one per file. Export uses the first one in FAMILIES that can represent the model exactly."""

from ..family import Family
from . import baichuan, bloom, chatglm, glm, gpt2, gpt_neox, llama, longrun, mistral, mpt, qwen2, qwen3, smollm3

FAMILIES: list[Family] = [
    llama.FAMILY,
    mistral.FAMILY,
    qwen2.FAMILY,
    qwen3.FAMILY,
    smollm3.FAMILY,
    glm.GLM,
    glm.GLM4,
    chatglm.FAMILY,
    baichuan.FAMILY,
    gpt2.FAMILY,
    bloom.FAMILY,
    gpt_neox.FAMILY,
    mpt.FAMILY,
    longrun.FAMILY,
]
