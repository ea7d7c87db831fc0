"""The model itself: its equation in plain Python, its initialisation table, its sizes and its options."""

import math
import re
from itertools import chain
from pathlib import Path

import pytest
import torch
import yaml
from tiny_models import SHAPE, TRAIN_LENGTH, VOCABULARY, logits, shared, tiny, tokens
from torch import nn

from model import build
from model.errors import ModelError
from model.init import initialise
from model.pe.registry import names

SIZES = Path(__file__).resolve().parents[2] / "configs" / "model"


def matvec(matrix: list[list[float]], x: list[float]) -> list[float]:
    return [sum(w * v for w, v in zip(row, x, strict=True)) for row in matrix]


def rms(x: list[float], weight: list[float], epsilon: float) -> list[float]:
    size = math.sqrt(sum(v * v for v in x) / len(x) + epsilon)
    return [w * v / size for w, v in zip(weight, x, strict=True)]


def centred(x: list[float], weight: list[float], bias: list[float], epsilon: float) -> list[float]:
    mean = sum(x) / len(x)
    size = math.sqrt(sum((v - mean) ** 2 for v in x) / len(x) + epsilon)
    return [w * (v - mean) / size + b for w, v, b in zip(weight, x, bias, strict=True)]


def plus(a: list[float], b: list[float]) -> list[float]:
    return [x + y for x, y in zip(a, b, strict=True)]


class Scalar:
    """The whole decoder without positions, a number at a time. Shares nothing with the product but the weights."""

    def __init__(self, model: nn.Module, options: dict):
        self.w = {name: p.tolist() for name, p in model.named_parameters()}
        self.options, self.epsilon = options, 1e-5

    def linear(self, name: str, x: list[float]) -> list[float]:
        y = matvec(self.w[f"{name}.weight"], x)
        return plus(y, self.w[f"{name}.bias"]) if f"{name}.bias" in self.w else y

    def attention(self, name: str, xs: list[list[float]]) -> list[list[float]]:
        heads, kv_heads = self.options["heads"], self.options.get("kv_heads") or self.options["heads"]
        d = self.options.get("head_dim") or self.options["width"] // heads
        q, k, v = [], [], []
        for x in xs:
            y = self.linear(f"{name}.qkv", x)
            pieces = [y[i : i + d] for i in range(0, len(y), d)]
            if self.options.get("qk_norm"):
                for i in range(heads + kv_heads):
                    which = "q" if i < heads else "k"
                    pieces[i] = rms(pieces[i], self.w[f"{name}.{which}_norm.weight"], self.epsilon)
            q.append(pieces[:heads])
            k.append(pieces[heads : heads + kv_heads])
            v.append(pieces[heads + kv_heads :])
        outputs = []
        for i in range(len(xs)):
            joined: list[float] = []
            for h in range(heads):
                g = h * kv_heads // heads
                e = [math.exp(matvec([q[i][h]], k[j][g])[0] / math.sqrt(d)) for j in range(i + 1)]
                joined += [sum(e[j] * v[j][g][c] for j in range(i + 1)) / sum(e) for c in range(d)]
            outputs.append(self.linear(f"{name}.out", joined))
        return outputs

    def mlp(self, name: str, x: list[float]) -> list[float]:
        y = self.linear(f"{name}.up", x)
        if self.options.get("mlp") == "gelu":
            y = [v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in y]
        elif self.options.get("mlp") == "gelu_tanh":
            y = [v * 0.5 * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))) for v in y]
        else:
            half = len(y) // 2
            y = [g / (1 + math.exp(-g)) * v for g, v in zip(y[:half], y[half:], strict=True)]
        return self.linear(f"{name}.down", y)

    def norm(self, name: str, x: list[float]) -> list[float]:
        """By name; one that the model lacks changes nothing."""
        if f"{name}.weight" not in self.w:
            return x
        weight = self.w[f"{name}.weight"]
        if self.options.get("norm") == "layernorm":
            return centred(x, weight, self.w.get(f"{name}.bias", [0.0] * len(x)), self.epsilon)
        return rms(x, weight, self.epsilon)

    def __call__(self, ids: list[int]) -> list[list[float]]:
        xs = [self.norm("embedding_norm", self.w["embedding.weight"][i]) for i in ids]
        for n in range(self.options["layers"]):
            name, before = f"layers.{n}", xs
            added = self.attention(f"{name}.attention", [self.norm(f"{name}.attention_norm", x) for x in xs])
            xs = [plus(x, self.norm(f"{name}.attention_out_norm", y)) for x, y in zip(xs, added, strict=True)]
            read = before if self.options.get("parallel_residual") else xs
            added = [self.mlp(f"{name}.mlp", self.norm(f"{name}.mlp_norm", x)) for x in read]
            xs = [plus(x, self.norm(f"{name}.mlp_out_norm", y)) for x, y in zip(xs, added, strict=True)]
        head = self.w["embedding.weight" if self.options.get("tie", True) else "head.weight"]
        return [matvec(head, self.norm("norm", x)) for x in xs]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mlp": "gelu"},
        {"mlp": "gelu_tanh"},
        {"kv_heads": 2},
        {"qk_norm": True},
        {"bias": True},
        {"qkv_bias": True},
        {"tie": False},
        {"ffn_width": 5},
        {"head_dim": 3},
        {"norm": "layernorm"},
        {"norm": "layernorm", "bias": True},
        {"post_norm": True},
        {"parallel_residual": True},
        {"embedding_norm": True},
    ],
    ids=lambda options: "-".join(map(str, options.items())) or "default",
)
def test_equals_the_equation_in_plain_python(options: dict) -> None:
    options = {"layers": 2, "width": 8, "heads": 4, **options}
    model = build(11, 8, options, "nope").eval()
    with torch.no_grad():  # norms of 1 and biases of 0 would hide a mistake, embeddings of 0.02 the whole network
        for name, p in model.named_parameters():
            draw = torch.Generator().manual_seed(len(name))
            p.add_(torch.randn(p.shape, generator=draw), alpha=0.3)
    ids = [3, 1, 4, 1, 5, 9]
    expected = torch.tensor(Scalar(model, options)(ids))
    torch.testing.assert_close(logits(model, torch.tensor([ids]))[0], expected, atol=1e-5, rtol=1e-5)


def rows_of_the_table() -> dict[str, str]:
    """Name -> variance of the docstring of `initialise`, for the rows with a normal distribution."""
    found = {}
    for line in (initialise.__doc__ or "").splitlines():
        row = re.match(r"\s+([a-z_.]+(?:, [a-z_.]+)*)\s{2,}N\(0, (.*?)\)(?:[;:]|$)", line)
        if row:
            found |= dict.fromkeys(row[1].split(", "), row[2])
    return found


def test_initialisation_is_what_its_table_says() -> None:
    options = {"layers": 3, "width": 256, "heads": 4, "tie": False, "bias": True, "qk_norm": True, "kv_heads": 2}
    model, table = build(1024, TRAIN_LENGTH, options, "nope"), rows_of_the_table()
    assert len(table) == 6, table
    seen = set()
    for name, module in model.named_modules():
        if isinstance(module, nn.RMSNorm):
            assert (module.weight == 1).all(), name
        elif isinstance(module, nn.Embedding | nn.Linear):
            (row,) = [row for row in table if f"{name}.weight".endswith(row) or name.endswith(row)]
            known = {"D": 256, "layers": 3, "fan_in": module.weight.shape[1]}
            expected = math.sqrt(eval(table[row].replace("^", "**"), known))
            assert module.weight.std().item() == pytest.approx(expected, rel=0.01), name
            assert abs(module.weight.mean().item()) < 0.02 * expected, name
            assert getattr(module, "bias", None) is None or (module.bias == 0).all(), name
            seen.add(row)
    assert seen == set(table)


def test_layer_norms_begin_with_weights_of_one_and_biases_of_zero() -> None:
    model = tiny("nope", norm="layernorm", bias=True, embedding_norm=True, post_norm=True)
    norms = [module for module in model.modules() if isinstance(module, nn.LayerNorm)]
    assert len(norms) == 4 * SHAPE["layers"] + 2
    assert all((module.weight == 1).all() and (module.bias == 0).all() for module in norms)


def test_the_residual_stream_has_variance_near_one() -> None:
    for layers in (2, 16):
        model, sizes = tiny("rope", layers=layers, width=128), []
        model.norm.register_forward_pre_hook(lambda _, x, sizes=sizes: sizes.append(x[0].std().item()))
        logits(model, tokens(4, TRAIN_LENGTH))
        assert 0.3 < sizes[0] < 1.5, layers


@pytest.mark.parametrize("name", names())
def test_one_seed_gives_every_scheme_the_same_weights(name: str) -> None:
    nope = shared("nope").state_dict()
    for parameter, weight in shared(name).state_dict().items():
        if not parameter.startswith("encodings."):
            assert torch.equal(weight, nope[parameter]), parameter


def test_weights_depend_on_the_seed_and_on_nothing_else() -> None:
    def weights(seed: int) -> torch.Tensor:
        return torch.cat([p.flatten() for p in build(VOCABULARY, TRAIN_LENGTH, SHAPE, "t5", seed=seed).parameters()])

    torch.manual_seed(1)
    first = weights(seed=5)
    torch.manual_seed(2)
    assert torch.equal(weights(seed=5), first)
    assert (weights(seed=6) != first).float().mean() > 0.9


def test_a_models_config_rebuilds_it() -> None:
    model = build(VOCABULARY, TRAIN_LENGTH, {**SHAPE, "kv_heads": 2}, {"name": "rope", "base": 500.0}).eval()
    again, x = build(**model.config).eval(), tokens(2, TRAIN_LENGTH)
    assert again.config == model.config
    assert torch.equal(logits(again, x), logits(model, x))


@pytest.mark.parametrize(
    ("size", "vocabulary", "millions"), [("tiny", 2048, 1), ("small", 2048, 10), ("base", 50257, 124)]
)
def test_sizes_have_the_parameters_they_promise(size: str, vocabulary: int, millions: int) -> None:
    text = (SIZES / f"{size}.yaml").read_text()
    options = yaml.safe_load(text)
    options.pop("defaults")
    with torch.device("meta"):
        model = build(vocabulary, 128, options, "nope")
    n, d = options["layers"], options["width"]
    hidden = {128: 336, 320: 848, 768: 2048}[d]  # 8/3 of the width, to the next multiple of 16
    inside = n * (4 * d * d + 3 * d * hidden + 2 * d) + d
    assert model.parameter_count(embedding=False) == inside
    assert model.parameter_count() == inside + vocabulary * d
    assert model.parameter_count() / 1e6 == pytest.approx(millions, rel=0.06)
    assert f"{millions} million" in text


def test_the_parameter_count_leaves_out_embeddings_but_not_the_encodings() -> None:
    tied, untied = tiny("learned", tie=True), tiny("learned", tie=False)
    table = VOCABULARY * SHAPE["width"]
    rows = TRAIN_LENGTH * SHAPE["width"]
    assert tied.parameter_count() - tied.parameter_count(embedding=False) == table
    assert untied.parameter_count() - untied.parameter_count(embedding=False) == 2 * table
    assert tied.parameter_count(embedding=False) == untied.parameter_count(embedding=False)
    assert tied.parameter_count() - tiny("nope", tie=True).parameter_count() == rows


def test_grouped_queries_equal_repeated_heads() -> None:
    grouped, full = tiny("rope", kv_heads=2), tiny("rope")
    weights, d = grouped.state_dict(), SHAPE["width"] // SHAPE["heads"]
    for name in [name for name in weights if name.endswith("qkv.weight")]:
        q, k, v = weights[name].unflatten(0, (-1, d)).split((4, 2, 2))
        weights[name] = torch.cat([q, k[[0, 0, 1, 1]], v[[0, 0, 1, 1]]]).flatten(0, 1)
    full.load_state_dict(weights)
    x = tokens(2, TRAIN_LENGTH)
    torch.testing.assert_close(logits(grouped, x), logits(full, x), atol=1e-5, rtol=0)


def test_qk_norm_makes_the_size_of_queries_and_keys_irrelevant() -> None:
    model, x = tiny("rope", qk_norm=True, norm_eps=1e-12), tokens(2, TRAIN_LENGTH)
    before = logits(model, x)
    with torch.no_grad():
        for layer in model.layers:
            q, k, _ = layer.attention.qkv.weight.split(SHAPE["width"])
            q.mul_(7)
            k.mul_(0.2)
    torch.testing.assert_close(logits(model, x), before, atol=1e-4, rtol=0)


def test_dropout_acts_in_training_only_and_repeats_with_the_seed() -> None:
    model, x = tiny("rope", dropout=0.3), tokens(2, TRAIN_LENGTH)
    assert torch.equal(logits(model, x), logits(shared("rope"), x))
    model.train()
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(logits(model, x))
    assert torch.equal(draws[0], draws[1])
    assert not torch.allclose(draws[0], draws[2], atol=1e-2)
    without = tiny("rope").train()
    state = torch.get_rng_state()
    logits(without, x)
    assert torch.equal(torch.get_rng_state(), state)  # without dropout nothing is drawn


def test_logits_are_float32_whatever_the_weights() -> None:
    model, x = tiny("alibi").bfloat16(), tokens(1, 8)
    assert logits(model, x).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert logits(shared("alibi"), x).dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 30}, r"model.width=30 is not a multiple of model.heads=4.*\n.*model.width=32"),
        ({"kv_heads": 3}, r"model.kv_heads=3 does not divide model.heads=4.*\n.*1, 2, 4"),
        ({"layers": 0}, r"model.layers=0: expected 1 or more"),
        ({"mlp": "relu"}, r"model.mlp=relu: expected one of gelu, gelu_tanh, swiglu\nDid you mean model.mlp=gelu"),
        ({"widht": 32}, r"model.widht=32: unknown option.*\nDid you mean width\?"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_options_that_do_not_fit_are_refused_with_a_remedy(options: dict, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build(VOCABULARY, TRAIN_LENGTH, {**SHAPE, **options}, "nope")


def test_every_parameter_is_one_of_the_equation() -> None:
    options = {"bias": True, "qk_norm": True}
    layer = ["attention_norm.weight", "mlp_norm.weight", "attention.q_norm.weight", "attention.k_norm.weight"]
    layer += [
        f"{m}.{kind}" for m in ("attention.qkv", "attention.out", "mlp.up", "mlp.down") for kind in ("weight", "bias")
    ]
    expected = ["embedding.weight", "norm.weight", "head.weight"]
    expected += chain.from_iterable([f"layers.{n}.{name}" for name in layer] for n in range(SHAPE["layers"]))
    assert sorted(name for name, _ in tiny("nope", **options).named_parameters()) == sorted(expected)
