"""Encodings against the code their papers released, where no package has it.

That code is in no dependency, so these tests run where clones of it lie in one folder, `pytest --released FOLDER`:

    chijames/KERPLE, chuanyang-Zheng/DAPE, TsinghuaC3I/Fourier-Position-Embedding, fla-org/flash-linear-attention,
    microsoft/torchscale, jquesnelle/yarn, sheryc/resonance_rope

Of each file only the definitions are executed, so nothing of the training frameworks around them has to be there.
"""

import ast
import importlib
import math
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from layer_logits import bias_of, causal, content, copied, logits_of
from one_layer import BATCH, HEAD_DIM, HEADS, LENGTH, TRAIN_LENGTH, Layer, encoding_of
from rotary_vectors import context, mapped, shape, vectors
from rotary_vectors import encoding_of as rotary_of
from rotary_vectors import logits as rotary_logits
from torch import Tensor, nn

from model.extension.base import make
from model.pe.fope import Fope
from model.pe.rope import Rope

einops = pytest.importorskip("einops")
Released = Callable[..., types.SimpleNamespace]
PARALLEL = ("get_model_parallel_world_size", "get_model_parallel_rank")


@pytest.fixture
def released(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Released:
    """The functions and classes of a file of the clones that have these names."""
    folder = request.config.getoption("--released")
    if folder is None:
        pytest.skip("needs --released FOLDER")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: "cpu")

    def definitions(path: str, *wanted: str) -> types.SimpleNamespace:
        tree = ast.parse((Path(folder) / path).read_text())
        tree.body = [
            node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in wanted
        ]
        names = {"torch": torch, "np": np, "nn": nn, "F": nn.functional, "math": math, "Parameter": nn.Parameter}
        names |= {"rearrange": einops.rearrange, "repeat": einops.repeat} | dict.fromkeys(PARALLEL[:1], lambda: 1)
        names |= dict.fromkeys(PARALLEL[1:], lambda: 0)
        future = ast.ImportFrom("__future__", [ast.alias("annotations")], 0)  # types nobody imported here
        tree.body.insert(0, ast.fix_missing_locations(future))
        exec(compile(tree, path, "exec"), names)
        return types.SimpleNamespace(**names)

    return definitions


DAPE = "DAPE/megatron/model/positional_embeddings.py"
NEOX = {"num_attention_heads": HEADS, "noise_seq_length": 0, "params_dtype": torch.float32}
NOTHING = torch.zeros(1, HEADS, LENGTH, LENGTH)


def bias(released: nn.Module) -> Tensor:
    return causal(released(NOTHING)).expand(BATCH, HEADS, -1, -1)


@pytest.mark.target("`kerple_log`", "DAPE's `ParallelKerpleLog`", "bias")
def test_kerple_log(released: Released, agree) -> None:
    theirs = released(DAPE, "ParallelKerpleLog").ParallelKerpleLog(types.SimpleNamespace(**NEOX, pos_emb="kerple_log"))
    agree(bias_of(copied(encoding_of("kerple_log"), p=theirs.bias_p, a=theirs.bias_a), Layer.random()), bias(theirs))


@pytest.mark.target("`kerple_power`", "KERPLE's `ParallelKerplePower`", "bias, relative")
def test_kerple_power(released: Released, agree) -> None:
    neox = types.SimpleNamespace(**NEOX, pos_emb="kerple_power_ap_none")
    theirs = released("KERPLE/megatron/mpu/layers.py", "ParallelKerplePower").ParallelKerplePower(neox)
    theirs.wei_a = theirs.wei_p = None
    encoding = copied(encoding_of("kerple_power"), p=theirs.bias_p, a=theirs.bias_a)
    table = encoding.table(LENGTH)
    assert table is not None
    agree(table[:, 1:], bias(theirs)[0, :, -1].flip(-1)[:, 1:], relative=True)


@pytest.mark.target("`fire`", "DAPE's `FIRE`", "bias")
def test_fire(released: Released, agree) -> None:
    theirs = released(DAPE, "FIRE").FIRE(HEADS, mlp_width=32, init_L=TRAIN_LENGTH)
    agree(bias_of(like_fire(encoding_of("fire"), theirs), Layer.random()), bias(theirs) - last_bias(theirs.mlp))


@pytest.mark.target("`dape_fire`", "DAPE's `FIRE_C`, its FIRE with ReLU", "attention logits")
def test_dape_over_fire(released: Released, agree) -> None:
    theirs = released(DAPE, "FIRE_C").FIRE_C(HEADS, mlp_width=32, init_L=TRAIN_LENGTH)
    theirs.mlp[1] = nn.ReLU()  # DAPE's own FIRE has a leaky one there, FIRE's paper and the class FIRE do not
    with torch.no_grad():
        theirs.mlp[2].bias.zero_()  # this one the second network would see
        theirs.mlp2[2].bias.zero_()
    first, _, out = theirs.mlp2
    encoding = like_fire(encoding_of("dape_fire"), theirs, "base__")
    copied(encoding, from_scores__weight=first.weight[:, :HEADS], from_scores__bias=first.bias)
    copied(encoding, from_bias__weight=first.weight[:, HEADS:], out__weight=out.weight)
    layer = Layer.random()
    agree(logits_of(encoding, layer), causal(theirs(content(layer))))


def like_fire(encoding, theirs: nn.Module, prefix: str = ""):
    first, _, out = theirs.mlp
    values = {"c": theirs.c, "m": theirs.L_multiplier, "hidden__weight": first.weight, "hidden__bias": first.bias}
    return copied(encoding, **{prefix + name: value for name, value in (values | {"out__weight": out.weight}).items()})


def last_bias(mlp: nn.Sequential) -> Tensor:
    """What the last layer adds to all keys of a query alike."""
    return causal(mlp[-1].bias.detach()[:, None, None].expand(-1, LENGTH, LENGTH))


@pytest.mark.target("`cope`", "DAPE's `CoPE`, as in the paper's listing", "attention logits")
def test_cope(released: Released, agree) -> None:
    layer, theirs = Layer.random(), released(DAPE, "CoPE").CoPE(npos_max=8, head_dim=HEAD_DIM)
    nn.init.normal_(theirs.pos_emb, generator=torch.Generator().manual_seed(0))
    encoding = copied(encoding_of({"name": "cope", "size": 8}), rows=theirs.pos_emb[0].T)
    agree(logits_of(encoding, layer), causal(theirs(layer.q, content(layer))))


@pytest.mark.target("`fox`", "flash-linear-attention's `naive_forgetting_attn`", "attention weights", limit=2e-6)
def test_fox(released: Released, agree) -> None:
    layer, encoding = Layer.random(), encoding_of("fox")
    gates = encoding.token_state(layer.x)["log_forget"].detach()
    theirs = released(
        "flash-linear-attention/fla/ops/forgetting_attn/naive.py", "naive_forgetting_attn"
    ).naive_forgetting_attn
    q, k, v = (x.transpose(1, 2) for x in (layer.q, layer.k, layer.v))
    agree(layer.run(encoding, "chunked"), theirs(q, k, v, gates).transpose(1, 2))


@pytest.mark.target("`path`", "flash-linear-attention's `naive_path_attn`, no gate", "attention weights", limit=1e-5)
@pytest.mark.parametrize("kv_heads", [HEADS, HEADS // 2])
def test_path(kv_heads: int, released: Released, agree) -> None:
    layer, encoding = Layer.random(kv_heads=kv_heads), encoding_of("path", kv_heads=kv_heads)
    state = encoding.token_state(layer.x)
    n = layer.q.shape[2]
    w = encoding.content_features(state, context(n))[0][:, :: HEADS // kv_heads].detach()  # one for each key head
    theirs = released("flash-linear-attention/fla/ops/path_attn/naive.py", "naive_path_attn").naive_path_attn
    q, k, w = (x.transpose(1, 2) for x in (layer.q, layer.k, w))
    v = layer.v[:, :kv_heads].transpose(1, 2)
    found = theirs(q, k, v, w, state["beta"].detach(), torch.zeros(BATCH, n, HEADS), HEAD_DIM**-0.5, chunk_size=8)
    agree(layer.run(encoding, "chunked"), found.transpose(1, 2))


@pytest.mark.target("`fope`", "the paper's `FourierEmbedding`", "what the turning channels add to the logits")
def test_fope(released: Released, agree) -> None:
    d, n = 32, 50
    q, k = vectors(d, n)
    scheme = rotary_of({"name": "fope", "layout": "half"}, d)
    assert isinstance(scheme, Fope)
    theirs = fourier(
        released("Fourier-Position-Embedding/olmo/model.py", "RotaryEmbedding", "FourierEmbedding"), scheme, d
    )
    frequency = torch.tensor(
        [10000 ** (-2 * c / d) for c in range(d // 2) if 10000 ** (-2 * c / d) * 32 >= 2 * math.pi]
    )
    angle = (torch.arange(n)[:, None] * frequency)[None, None]
    turned = [theirs.apply_rotary_pos_emb(angle.sin(), angle.cos(), x) for x in (q, k)]
    turning = [c for c in range(d) if c % (d // 2) < scheme.series]  # theirs gives the others 1 + i, ours 1
    a, b = (x[..., turning] for x in mapped(scheme, q, k))
    e, f = (x[..., turning] for x in turned)
    agree(a @ b.mT / d**0.5, e @ f.mT / d**0.5)


def fourier(names: types.SimpleNamespace, scheme: Fope, d: int) -> nn.Module:
    theirs = names.FourierEmbedding.__new__(names.FourierEmbedding)
    nn.Module.__init__(theirs)
    chosen = {"fourier_separate_basis": True, "fourier_norm": False, "fourier_ignore_zero": True}
    theirs.config, theirs.head_dim, theirs.prefix = types.SimpleNamespace(**chosen), d, "attn"
    theirs.input_shape, theirs.coef_shape, theirs.output_shape = "bhtD", "hDd", "bhtd"
    theirs.cos_coef, theirs.sin_coef = scheme.mixture()
    return theirs


XPOS = ("fixed_pos_embedding", "rotate_every_two", "duplicate_interleave", "apply_rotary_pos_emb", "XPOS")


@pytest.mark.target("`xpos`", "torchscale's `XPOS`", "attention logits")
def test_xpos(released: Released, agree) -> None:
    d, n = 32, 50
    q, k = vectors(d, n)
    theirs = released("torchscale/torchscale/component/xpos_relative_position.py", *XPOS).XPOS(d)
    a, b = (theirs(x.flatten(0, 1), downscale=x is k).view_as(x) for x in (q, k))
    agree(rotary_logits("xpos", q, k), torch.tril(a @ b.mT) / d**0.5)


@pytest.mark.target("`rerope_logn`", "Su's `forward_with_rerope`, in YaRN's repository", "attention weights")
def test_rerope_with_logn(released: Released, monkeypatch: pytest.MonkeyPatch, agree) -> None:
    d, n, train, window = 16, 50, 32, 16
    q, k = vectors(d, n)
    parts = [{"name": "rerope", "window": window}, "logn"]
    ours = make(shape(d, train), {"name": "chain", "parts": parts}).extend(rotary_of("rope", d, train), n)
    hidden = ~torch.ones(n, n, dtype=torch.bool).tril()
    weights = rotary_logits(ours, q, k).masked_fill(hidden, -torch.inf).softmax(-1)
    for name in ("F", "math"):  # an older module had them, and they are imported from there
        modeling = importlib.import_module("transformers.models.llama.modeling_llama")
        monkeypatch.setattr(modeling, name, {"F": nn.functional, "math": math}[name], raising=False)
    theirs = released("yarn/scaled_rope/LlamaReRoPE.py", "apply_rotary_pos_emb", "forward_with_rerope")
    mask = torch.zeros(2, 1, n, n).masked_fill(hidden, -torch.inf)
    index = torch.arange(n)[None]
    found = theirs.forward_with_rerope(llama_layer(q, k, train, window), q[:, 0], mask, index, output_attentions=True)
    agree(weights, found[1])


def llama_layer(q: Tensor, k: Tensor, train: int, window: int) -> types.SimpleNamespace:
    """What `forward_with_rerope` reads of an attention layer of transformers 4.31."""
    heads, n, d = q.shape[1:]
    angle = torch.outer(torch.arange(n), 10000.0 ** (-torch.arange(0, d, 2) / d)).repeat(1, 2)[None, None]
    given = {"q_proj": q, "k_proj": k, "v_proj": k}
    return types.SimpleNamespace(
        **{name: lambda x, y=y: y.transpose(1, 2).flatten(2).clone() for name, y in given.items()},
        **{"num_heads": heads, "num_key_value_heads": heads, "num_key_value_groups": 1, "head_dim": d},
        **{"hidden_size": heads * d, "training_length": train, "window": window, "pretraining_tp": 1},
        rotary_emb=lambda values, seq_len: (angle.cos(), angle.sin()),
        o_proj=lambda x: x,
    )


SETTINGS = [(128, 4096, 8.0), (32, 128, 8.0), (64, 2048, 4.0)]
PART = "scaled_rope/LlamaYaRNScaled"
YARN = ("find_correction_dim", "find_correction_range", "linear_ramp_mask", "get_mscale")
YARN += ("LlamaYaRNScaledRotaryEmbedding", "LlamaYaRNScaledResonanceRotaryEmbedding")


@pytest.mark.target("`yarn_code`", "YaRN's `LlamaYaRNScaledRotaryEmbedding`", "frequencies and amplitude, relative")
@pytest.mark.parametrize(("d", "train", "s"), SETTINGS)
def test_yarn(d: int, train: int, s: float, released: Released, agree) -> None:
    made = released(f"yarn/{PART}RotaryEmbedding.py", *YARN).LlamaYaRNScaledRotaryEmbedding
    theirs = made(d, 8, scale=s, original_max_position_embeddings=train)
    found, amplitude = frequencies({"name": "yarn_code", "beta": 32.0}, d, train, s)
    agree(found, theirs.inv_freq, relative=True)
    agree(torch.tensor(amplitude), torch.tensor(theirs.mscale), relative=True)


@pytest.mark.target(
    "`resonance_yarn`", "Resonance's `LlamaYaRNScaledResonanceRotaryEmbedding`", "frequencies, relative", limit=2e-6
)
@pytest.mark.parametrize(("d", "train", "s"), SETTINGS)
def test_resonance(d: int, train: int, s: float, released: Released, agree) -> None:
    made = released(f"resonance_rope/llama_finetuning/{PART}ResonanceRotaryEmbedding.py", *YARN)
    theirs = made.LlamaYaRNScaledResonanceRotaryEmbedding(d, 8, scale=s, original_max_position_embeddings=train)
    parts = [{"name": "yarn_code", "beta": 32.0}, "resonance"]
    agree(frequencies({"name": "chain", "parts": parts}, d, train, s)[0], theirs.r_inv_freq, relative=True)


def frequencies(extension: dict, d: int, train: int, s: float) -> tuple[Tensor, float]:
    longer = make(shape(d, train), extension).extend(rotary_of("rope", d, train), int(s * train))
    assert isinstance(longer, Rope)
    return longer.scaled(context(8, train))
