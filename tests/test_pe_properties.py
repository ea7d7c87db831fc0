"""What every position encoding must do, checked for each file of configs/pe from its declarations alone.

None of these tests knows a scheme. That a formula is the paper's is the business of the reference tests; what is held
here is everything that can be wrong whatever the formula: a look into the future, an offset, a stale cache, a forgotten
parameter, a rounded position, an option without effect.
"""

import inspect
import itertools
import math
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
from tiny_models import (
    TRAIN_LENGTH,
    VOCABULARY,
    Gapped,
    Restarting,
    Shifted,
    decoded,
    gradients,
    logits,
    longest,
    plain,
    relative,
    shared,
    tiny,
    tokens,
)
from torch import Tensor

from model.errors import ModelError
from model.pe.base import PositionEncoding
from model.pe.registry import names, options, schemes
from model.positions.base import PositionPlan
from model.registry import class_name, matches
from model.transformer import Transformer, initialise

every_scheme = pytest.mark.parametrize("name", names())
FAR = 100_003  # a position that bfloat16 rounds to 99,840
BEYOND = TRAIN_LENGTH + 8  # a length past the training length
NOISE = 2e-5  # float32 sums in another order; logits are of size 1


def difference(a: Tensor, b: Tensor) -> float:
    """Largest difference; infinite if anything is not finite."""
    largest = (a - b).abs().max().item()
    return largest if math.isfinite(largest) else math.inf


@every_scheme
def test_the_future_is_invisible(name: str) -> None:
    model = shared(name)
    n = longest(model, BEYOND)
    before = tokens(1, n).repeat(n, 1)
    later = torch.arange(n) >= torch.arange(n)[:, None]  # row t: other tokens from t on
    after = torch.where(later, (before + 1 + torch.arange(n)) % VOCABULARY, before)
    change = (logits(model, after, chunk=16) - logits(model, before, chunk=16)).abs().amax(-1)
    assert change[~later].max() <= 1e-6
    assert change.diagonal().min() > 1e-3  # and the tokens do matter


@every_scheme
def test_a_prefix_computes_what_it_computes_alone(name: str) -> None:
    model = shared(name)
    n = longest(model, 2 * TRAIN_LENGTH)
    whole = logits(model, tokens(2, n), chunk=16)
    lengths = [t for t in (1, 2, 15, 31, 32, 33, 50) if t < n]
    alone = [difference(logits(model, tokens(2, n)[:, :t], chunk=16), whole[:, :t]) for t in lengths]
    assert (max(alone) <= NOISE) == (not model.length_dependent), alone


@every_scheme
def test_a_common_shift_changes_nothing_exactly_if_relative(name: str) -> None:
    model = shared(name)
    n = longest(model, TRAIN_LENGTH)
    if model.max_positions is not None:
        n = min(n, model.max_positions // 2)
    starts = [s if model.max_positions is None else min(s, model.max_positions - n) for s in (1, 1009, FAR)]
    x = tokens(2, n)
    here = logits(model, x)
    ways = [{"kernel": "dense"}, {"kernel": "chunked", "chunk": 16}]
    moved = [
        difference(logits(model, x, plan=Shifted(start, contiguous), **way), here)
        for start in starts
        for way in ways
        for contiguous in (True, False)
    ]
    if relative(model):
        assert max(moved) <= NOISE
    else:
        assert max(moved) > 1e-3, f"{name} is relative: declare it"


CUTS = {"tokens": range(1, BEYOND), "chunks": range(7, BEYOND, 7), "prompt": (20, 21, 22, TRAIN_LENGTH + 1)}


@every_scheme
@pytest.mark.parametrize("cuts", CUTS.values(), ids=CUTS)
def test_cached_decoding_equals_the_full_forward(name: str, cuts: Iterable[int]) -> None:
    model = shared(name)
    x = tokens(2, longest(model, BEYOND))
    change = difference(decoded(model, x, cuts, chunk=16), logits(model, x, kernel="dense"))
    # A scheme whose code of a token changes as the text grows is stale in a cache: that is what the declaration says.
    assert (change <= NOISE) == (not model.length_dependent), change


@every_scheme
def test_packed_documents_do_not_see_each_other(name: str) -> None:
    model = shared(name)
    n = longest(model, BEYOND)
    x, ends = tokens(2, n), [0, 5, 20, n]
    documents = torch.bucketize(torch.arange(n), torch.tensor(ends[1:-1]), right=True).repeat(2, 1)
    alone = torch.cat([logits(model, x[:, a:b]) for a, b in itertools.pairwise(ends)], 1)
    packed = logits(model, x, documents=documents, plan=Restarting(), chunk=16)
    assert (difference(packed, alone) <= NOISE) == (not model.length_dependent)
    running_on = logits(model, x, documents=documents, chunk=16)  # positions do not restart
    if relative(model) and not model.length_dependent:
        assert difference(running_on, alone) <= NOISE
    other = torch.where(documents == 1, (x + 1) % VOCABULARY, x)
    change = (logits(model, other, documents=documents, chunk=16) - running_on).abs().amax(-1)
    assert change[documents != 1].max() <= 1e-6
    assert change[documents == 1].max() > 1e-3


@every_scheme
def test_every_parameter_learns(name: str) -> None:
    model = shared(name)
    for parameter, gradient in gradients(model, tokens(2, TRAIN_LENGTH)).items():
        assert gradient.isfinite().all(), parameter
        assert gradient.abs().max() > 0, f"{parameter} has no gradient"


@every_scheme
def test_all_legal_kernels_agree_in_values_and_gradients(name: str) -> None:
    model = tiny(name, kv_heads=2, qk_norm=True)
    plans: list[PositionPlan] = [model.plan]
    if model.max_positions is None:
        plans.append(Gapped())
    for plan, (n, chunk) in itertools.product(plans, [(BEYOND, 16), (33, 8), (24, 5), (3, 16)]):
        x = tokens(2, longest(model, n))
        expected = gradients(model, x, kernel="dense", plan=plan)
        truth = logits(model, x, kernel="dense", plan=plan)
        for kernel in ["auto", "chunked"] + ["flash"] * plain(model):
            way = {"kernel": kernel, "chunk": chunk, "plan": plan}
            assert difference(logits(model, x, **way), truth) <= NOISE, way
            for parameter, gradient in gradients(model, x, **way).items():
                scale = max(1e-3, expected[parameter].abs().max().item())
                assert difference(gradient, expected[parameter]) <= 1e-4 * scale, (parameter, way)


@every_scheme
def test_four_times_the_training_length_works_or_is_refused_by_name(name: str) -> None:
    model, wanted = shared(name), 4 * TRAIN_LENGTH
    assert logits(model, tokens(1, longest(model, wanted)), chunk=32).isfinite().all()
    limit = model.max_positions
    if limit is None:
        return
    x, named = tokens(1, limit + 1), rf"length={limit + 1}\b.*\b{limit}\b"
    with pytest.raises(ModelError, match=named):
        logits(model, x)
    if limit <= wanted:
        with pytest.raises(ModelError, match=named):
            decoded(model, x, [limit - 1, limit])


@every_scheme
def test_bfloat16_weights_leave_positions_exact(name: str) -> None:
    """Far out the bfloat16 model is as near to the float32 model of the same weights as it is at the beginning."""
    rounded, exact = tiny(name).bfloat16(), tiny(name)
    exact.load_state_dict(rounded.state_dict())
    x = tokens(4, min(TRAIN_LENGTH, longest(rounded, TRAIN_LENGTH)))
    start = FAR if rounded.max_positions is None else min(FAR, rounded.max_positions - x.shape[1])
    apart = []
    for plan in (Shifted(0), Shifted(start), Shifted(start, contiguous=False)):
        a, b = logits(rounded, x, plan=plan), logits(exact, x, plan=plan)
        apart.append((a - b).square().mean().sqrt().item() / b.square().mean().sqrt().item())
    assert max(apart) < 5 * apart[0], apart


@every_scheme
def test_mixed_precision_trains(name: str) -> None:
    model, x = shared(name), tokens(4, TRAIN_LENGTH + 1)[:, : longest(shared(name), TRAIN_LENGTH)]
    loss = model.loss(x, x.roll(-1, 1))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model.loss(x, x.roll(-1, 1))
    assert abs(mixed - loss) < 0.02 * loss
    for (parameter, _), gradient in zip(
        model.named_parameters(), torch.autograd.grad(mixed, list(model.parameters())), strict=True
    ):
        assert gradient.dtype == torch.float32, parameter
        assert gradient.isfinite().all(), parameter


@every_scheme
def test_a_model_is_its_learned_parameters_and_nothing_else(name: str) -> None:
    model = shared(name)
    assert list(model.buffers()) == []
    assert list(model.state_dict()) == [parameter for parameter, _ in model.named_parameters()]
    assert all(parameter.requires_grad for parameter in model.parameters())
    x = tokens(2, longest(model, BEYOND))
    for fill in (lambda m: m.load_state_dict(model.state_dict()), lambda m: initialise(m, seed=0)):
        with torch.device("meta"):
            other = tiny(name)
        assert all(parameter.is_meta for parameter in other.parameters())
        other.to_empty(device="cpu")
        fill(other)
        assert torch.equal(logits(other, x), logits(model, x))


def behaviour(model: Transformer) -> list[Tensor | str]:
    """What a model learns, and what it does within, past and far beyond its training length."""
    plans = [model.plan] + [Shifted(FAR)] * (model.max_positions is None)
    # An option may only decide that something is learned and leave its initial value as it was.
    answers: list[Tensor | str] = [" ".join(name for name, _ in model.named_parameters())]
    for n, plan in itertools.product((TRAIN_LENGTH, 3 * TRAIN_LENGTH), plans):
        try:
            answers.append(logits(model, tokens(1, n), plan=plan))
        except ModelError as error:
            answers.append(str(error))
    return answers


def same(a: list[Tensor | str], b: list[Tensor | str]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x, y) if isinstance(x, Tensor) and isinstance(y, Tensor) else x == y
        for x, y in zip(a, b, strict=True)
    )


def alternatives(value: Any, annotation: Any) -> list[Any]:
    """Other values of an option that its type allows, nearest to `value` first."""
    if get_origin(annotation) is Literal:
        return [choice for choice in get_args(annotation) if choice != value]
    if get_origin(annotation) is list:
        item = get_args(annotation)[0]
        fewer = [value[:i] + value[i + 1 :] for i in range(len(value))] if len(value) > 1 else []
        others = [[*value[:i], new, *value[i + 1 :]] for i, v in enumerate(value) for new in alternatives(v, item)]
        return fewer + others
    if annotation == "part":
        return [choice for choice in ("rope_abf", "alibi", "nope") if choice != value]
    if annotation is bool:
        return [not value]
    if annotation is int:
        return [n for n in (2 * value, value // 2, value + 1, value - 1) if n != value] if value is not None else [8, 24, 64]
    if annotation is float:
        return [2 * value, value / 2] if value is not None else [0.5, 2.0, 8.0]
    if annotation is None or annotation is type(None):
        return [] if value is None else [None]
    kinds = [kind for kind in get_args(annotation) if value is None or matches(value, kind) or kind is type(None)]
    assert kinds, f"{annotation}: say here what else an option of this type can be"
    return [choice for kind in kinds for choice in alternatives(value, kind)]


@every_scheme
def test_every_option_matters_and_instances_share_nothing(name: str) -> None:
    wide = {"width": 64}  # heads of 16: with fewer channels some rotary variants turn a single pair
    first = tiny(name, **wide)
    before = behaviour(first)
    for option, annotation in schemes.signature(options(name)["scheme"]).items():
        legal, matter = 0, 0
        for value in alternatives(options(name)[option], annotation):
            try:
                other = tiny({"name": name, option: value}, **wide)
            except ModelError:
                continue
            legal += 1
            matter += not same(behaviour(other), before)
            if matter and get_origin(annotation) is not Literal:
                break
        assert legal, f"{option}: no other value is legal, so it is no option"
        assert matter == legal if get_origin(annotation) is Literal else matter, f"{option} changes nothing"
    assert same(behaviour(first), before)  # nobody left something behind in a cache
    assert same(behaviour(tiny(name, **wide)), before)


@every_scheme
def test_a_yaml_names_itself_and_every_option_of_its_class(name: str) -> None:
    yaml = options(name)
    assert yaml["name"] == name
    constructor = inspect.signature(schemes.load(yaml["scheme"]).__init__).parameters.values()
    keywords = [p for p in constructor if p.kind is p.KEYWORD_ONLY]
    assert [key for key in yaml if key not in ("name", "scheme")] == [p.name for p in keywords]
    assert all(p.default is p.empty for p in keywords), "values live in the YAML"
    assert list(schemes.signature(yaml["scheme"])) == [p.name for p in keywords]
    assert schemes.load(yaml["scheme"]).__doc__


def test_every_scheme_can_be_selected() -> None:
    """Each file whose class is its name is a scheme, unless another one is built on it."""
    folder = Path(inspect.getfile(Transformer)).with_name("pe")
    classes = {}
    for stem in sorted(path.stem for path in folder.glob("*.py")):
        classes[stem] = getattr(import_module(f"model.pe.{stem}"), class_name(stem), None)
    schemes = {stem: cls for stem, cls in classes.items() if isinstance(cls, type) and issubclass(cls, PositionEncoding)}
    bases = {base for cls in schemes.values() for base in cls.__mro__[1:]}
    used = {options(name)["scheme"] for name in names()}
    assert used <= set(schemes)
    assert [stem for stem, cls in schemes.items() if stem not in used and cls not in bases] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rope", "t5", "rope_window"])
def test_compiled_equals_eager(name: str) -> None:
    model, x = tiny(name, layers=2), tokens(2, TRAIN_LENGTH)
    expected, wanted = logits(model, x), model.loss(x, x.roll(-1, 1))
    compiled = torch.compile(model)
    with torch.no_grad():
        assert difference(compiled(x), expected) <= NOISE
    loss = compiled(x, x.roll(-1, 1))
    loss.backward()
    eager = torch.autograd.grad(wanted, list(model.parameters()))
    for (parameter, p), gradient in zip(model.named_parameters(), eager, strict=True):
        assert difference(p.grad, gradient) <= 1e-4 * max(1e-3, gradient.abs().max().item()), parameter
