"""Options of position encodings: each has an effect, each is in the YAML, and instances share nothing."""

import inspect
import itertools
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
from tiny_models import TRAIN_LENGTH, Shifted, logits, tiny, tokens
from torch import Tensor

from model.errors import ModelError
from model.pe.base import PositionEncoding
from model.pe.registry import names, options, schemes
from model.registry import class_name, matches
from model.transformer import Transformer

FAR = 100_003
every_scheme = pytest.mark.parametrize("name", names())


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
        return (
            [n for n in (2 * value, value // 2, value + 1, value - 1) if n != value]
            if value is not None
            else [8, 24, 64]
        )
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
    schemes = {
        stem: cls for stem, cls in classes.items() if isinstance(cls, type) and issubclass(cls, PositionEncoding)
    }
    bases = {base for cls in schemes.values() for base in cls.__mro__[1:]}
    used = {options(name)["scheme"] for name in names()}
    assert used <= set(schemes)
    assert [stem for stem, cls in schemes.items() if stem not in used and cls not in bases] == []
