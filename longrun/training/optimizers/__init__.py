"""Optimizers by name. An optimizer is one file of this folder and, for its values, one YAML file:

    longrun/training/optimizers/lion.py   def lion(model, *, lr: float, weight_decay: float, rho: float = 0.9)
    configs/optim/lion.yaml               name: lion, and a value for every option without a default

The function returns a torch optimizer. It takes what it needs of lr, betas and weight_decay. Its other keyword-only
arguments are its own options, `optim.rho=0.9`; their types and defaults are read from the source text, so that an
option is checked before torch is imported.
"""

import ast
import importlib
import inspect
from dataclasses import MISSING
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longrun.base.errors import ConfigError
from model.errors import ModelError

if TYPE_CHECKING:
    import torch
    from torch import nn

FOLDER = Path(__file__).resolve().parent
OPTIMIZERS = tuple(sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__"))
COMMON = ("lr", "betas", "weight_decay")  # set by `optim` for every optimizer


@cache
def options(name: str) -> dict[str, tuple[Any, Any]]:
    """The own options of an optimizer: {option: (type, default)}; the default is MISSING if there is none.

    Raises ConfigError, naming the file, if it does not define the function that it should.
    """
    file = Path("longrun/training/optimizers", f"{name}.py")
    try:
        tree = ast.parse((FOLDER / file.name).read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise ConfigError(f"{file}, line {error.lineno}: {error.msg}") from None
    functions = {node.name: node.args for node in tree.body if isinstance(node, ast.FunctionDef)}
    if name not in functions:
        defined = ", ".join(functions) or "none"
        raise ConfigError(f"{file}: expected a function {name}(model, *, lr, ...), its functions are: {defined}")
    arguments = functions[name]
    pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return {argument.arg: _option(file, argument, value) for argument, value in pairs if argument.arg not in COMMON}


def _option(file: Path, argument: ast.arg, default: ast.expr | None) -> tuple[Any, Any]:
    try:
        allowed = {"int": int, "float": float, "bool": bool, "str": str, "list": list}
        annotation = eval(ast.unparse(argument.annotation or ast.Name("?")), {"__builtins__": {}}, allowed)
        return annotation, MISSING if default is None else ast.literal_eval(default)
    except Exception:
        raise ConfigError(
            f"{file}: expected {argument.arg}: TYPE or {argument.arg}: TYPE = VALUE; types are int, float, bool, str, "
            f"list[...] and X | None, values are literals"
        ) from None


def build_optimizer(
    model: "nn.Module",
    name: str = "adamw",
    lr: float = 3e-3,
    betas: tuple[float, float] = (0.9, 0.95),
    weight_decay: float = 0.1,
    **own: Any,
) -> "torch.optim.Optimizer":
    """The optimizer of all parameters that require a gradient.

    name: a file of this folder.  weight_decay: applies to tensors of two dimensions or more; not to norms, biases, nor
    to a parameter with `p.no_decay = True`.  own: the optimizer's own options.
    Raises ModelError for an unknown name, an unknown option or a value out of range.
    """
    import torch

    if name not in OPTIMIZERS:
        raise ModelError(f"optim.name={name}: unknown. Known: {', '.join(OPTIMIZERS)}.")
    for key, value, good in [
        ("lr", lr, lr > 0),
        ("betas", betas, len(betas) == 2 and all(0 <= beta < 1 for beta in betas)),
        ("weight_decay", weight_decay, weight_decay >= 0),
    ]:
        if not good:
            raise ModelError(f"optim.{key}={value}: out of range; lr > 0, weight_decay >= 0, betas in [0, 1).")
    function = getattr(importlib.import_module(f"{__name__}.{name}"), name)
    accepted = inspect.signature(function).parameters
    common = {"lr": lr, "betas": tuple(betas), "weight_decay": weight_decay}
    for key in own:
        if key not in accepted:
            raise ModelError(f"optim.{key}={own[key]}: {name} has the options {', '.join(options(name)) or 'none'}.")
    try:
        optimizer = function(model, **{key: value for key, value in common.items() if key in accepted}, **own)
    except ModelError:
        raise
    except ValueError as error:  # torch refuses a value out of range
        raise ModelError(f"optim.name={name} ({FOLDER / name}.py): {error}") from error
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ModelError(f"{FOLDER / name}.py: {name} returns {optimizer!r}, expected a torch.optim.Optimizer")
    return optimizer
