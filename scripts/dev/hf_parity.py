"""python -m scripts.dev.hf_parity: differences between our models and those of transformers, as a table.

Every row is a small model with random weights, larger than at initialisation so that every equation matters, on
sequences longer than the training length. In: their weights in our model. Out: our weights in theirs. The table is in
docs/ecosystem.md; tests/hf/test_hf_import.py and test_hf_export.py require each number to be below LIMIT.
"""

import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model import build
from model.hf import load_hf, save_hf
from model.transformer import Transformer

LIMIT = 1e-4  # of logits with a standard deviation near 1, in float32
VOCABULARY, TRAINED, FED = 97, 32, 48
BLOCK = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
    "pad_token_id": None, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
SIZES = {"layers": 3, "width": 32, "heads": 4, "ffn_width": 48}
NORMS = {"norm": "layernorm", "bias": True}


@dataclass(frozen=True)
class Case:
    """config: class of transformers, with `options`.  ours: arguments of `build` for the other direction."""

    name: str
    config: str
    options: dict[str, Any] = field(default_factory=dict)
    ours: dict[str, Any] | None = None


def rope(kind: str, **more: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **more}}


def llama(name: str, kind: str, extension: str | dict, **more: Any) -> Case:
    """A Llama with scaled rotary positions."""
    original = {} if kind in ("linear", "dynamic") else {"original_max_position_embeddings": 16}
    options = BLOCK | rope(kind, **original, **more)
    if kind == "dynamic":
        options["max_position_embeddings"] = 24
    ours = {"model": SIZES, "pe": "rope", "extension": extension, "extension_length": 4 * TRAINED}
    return Case(name, "LlamaConfig", options, ours)


CASES = [
    Case("Llama", "LlamaConfig", BLOCK, {"model": SIZES | {"kv_heads": 2}, "pe": "rope"}),
    Case(
        "Llama, tied, with biases",
        "LlamaConfig",
        BLOCK | {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
        {"model": SIZES | {"bias": True, "tie": True}, "pe": {"name": "rope", "base": 500000.0}},
    ),
    llama("Llama, linear scaling", "linear", "pi", factor=4.0),
    llama("Llama, dynamic NTK", "dynamic", "dynamic_ntk", factor=2.0),
    llama("Llama, yarn", "yarn", "yarn_code", factor=4.0, beta_fast=4.0, beta_slow=1.0),
    llama("Llama, llama3 scaling", "llama3", "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0),
    llama(
        "Llama, longrope",
        "longrope",
        {"name": "longrope", "short": [1.0, 1.1, 1.2, 1.3], "long": [1.0, 2.0, 3.0, 4.0]},
        factor=4.0,
        short_factor=[1.0, 1.1, 1.2, 1.3],
        long_factor=[1.0, 2.0, 3.0, 4.0],
    ),
    Case(
        "Mistral, sliding window",
        "MistralConfig",
        BLOCK | {"sliding_window": 7},
        {"model": SIZES, "pe": {"name": "mistral", "parts": ["rope", {"name": "window", "size": 7}]}},
    ),
    Case(
        "Qwen2, window in some layers",
        "Qwen2Config",
        BLOCK | {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
        {"model": SIZES | {"qkv_bias": True, "kv_heads": 2}, "pe": "rope"},
    ),
    Case(
        "Qwen3",
        "Qwen3Config",
        BLOCK | {"head_dim": 16},
        {"model": SIZES | {"qk_norm": True, "head_dim": 16}, "pe": "rope"},
    ),
    Case("SmolLM3", "SmolLM3Config", BLOCK | {"no_rope_layers": [1, 0, 1]}, {"model": SIZES, "pe": "nope"}),
    Case("GLM-4 (glm)", "GlmConfig", BLOCK | {"head_dim": 8}, {"model": SIZES, "pe": "chatglm2"}),
    Case(
        "GLM-4-0414 (glm4)",
        "Glm4Config",
        BLOCK | {"head_dim": 8},
        {"model": SIZES | {"post_norm": True, "qkv_bias": True, "tie": False}, "pe": "chatglm2"},
    ),
    Case(
        "GPT-2",
        "GPT2Config",
        {"vocab_size": VOCABULARY, "n_positions": 64, "n_embd": 32, "n_layer": 3, "n_head": 4},
        {"model": SIZES | NORMS | {"mlp": "gelu_tanh"}, "pe": {"name": "learned", "rows": 64}},
    ),
    Case(
        "Bloom, 6 heads",
        "BloomConfig",
        {"vocab_size": VOCABULARY, "hidden_size": 36, "n_layer": 3, "n_head": 6},
        {
            "model": NORMS | {"layers": 3, "width": 36, "heads": 6, "mlp": "gelu_tanh", "embedding_norm": True},
            "pe": "alibi",
        },
    ),
    Case(
        "GPT-NeoX",
        "GPTNeoXConfig",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
         "intermediate_size": 48, "max_position_embeddings": 64},
        {"model": SIZES | NORMS | {"heads": 2, "mlp": "gelu", "parallel_residual": True, "tie": False},
         "pe": "gpt_neox"},
    ),
    Case(
        "MPT, 6 heads",
        "MptConfig",
        {"vocab_size": VOCABULARY, "d_model": 36, "n_layers": 3, "n_heads": 6, "max_seq_len": 64},
        {"model": {"layers": 3, "width": 36, "heads": 6, "mlp": "gelu", "norm": "layernorm"}, "pe": "alibi"},
    ),
    Case("own code: ALiBi", "", ours={"model": SIZES, "pe": "alibi"}),
    Case("own code: T5's bias", "", ours={"model": SIZES, "pe": "t5"}),
    Case("own code: KERPLE", "", ours={"model": SIZES, "pe": "kerple_log"}),
    Case("own code: FIRE", "", ours={"model": SIZES, "pe": "fire"}),
    Case("own code: forgetting attention", "", ours={"model": SIZES, "pe": "fox_rope"}),
    Case("own code: windows and NoPE", "", ours={"model": SIZES | {"layers": 4}, "pe": "rnope_swa"}),
    Case("own code: YaRN of the paper", "", ours=llama("", "linear", "yarn", factor=4.0).ours),
]  # fmt: skip


def theirs(case: Case, folder: Path) -> nn.Module:
    """A random model of transformers, saved in `folder`."""
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, case.config)(**case.options)
    model = transformers.AutoModelForCausalLM.from_config(config).eval().float()
    enlarge(model)
    model.save_pretrained(folder)
    return model


def ours(case: Case) -> Transformer:
    assert case.ours is not None
    model = build(VOCABULARY, TRAINED, **case.ours).eval()
    enlarge(model)
    return model


@torch.no_grad()
def enlarge(model: nn.Module) -> None:
    """Add noise: norms of 1, biases of 0 and small weights would hide mistakes."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)


def tokens(length: int = FED) -> Tensor:
    return torch.randint(VOCABULARY, (2, length), generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def distance(one: nn.Module, other: nn.Module, fed: Tensor | None = None) -> float:
    """Largest difference of the logits of two models, of either library."""
    fed = tokens() if fed is None else fed
    a, b = (model(fed) for model in (one, other))
    a, b = (getattr(y, "logits", y) for y in (a, b))
    return (a - b).abs().max().item()


def inwards(case: Case, folder: Path) -> tuple[nn.Module, Transformer]:
    """Their model, and ours with its weights."""
    return theirs(case, folder), load_hf(folder)


def outwards(case: Case, folder: Path) -> tuple[Transformer, nn.Module, str]:
    """Our model, theirs with its weights, and the model_type."""
    from transformers import AutoModelForCausalLM

    model = ours(case)
    kind = save_hf(model, folder, separator=0)
    return model, AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=kind == "longrun").eval(), kind


def table() -> list[str]:
    lines = ["| model | in | out | exported as |", "|---|---|---|---|"]
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            into = f"{distance(*inwards(case, Path(folder) / 'theirs')):.0e}" if case.config else ""
            model, other, kind = outwards(case, Path(folder) / "ours")
            lines.append(f"| {case.name} | {into} | {distance(model, other):.0e} | `{kind}` |")
    return lines


def main() -> int:
    os.environ["HF_HUB_OFFLINE"] = "1"
    import transformers

    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    print(f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}\n")
    print("\n".join(table()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
