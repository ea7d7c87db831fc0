"""Live models and optimizers as named tensors, and back. Names are those of `state_dict`, without wrappers' prefixes.

Whatever a parameter is on the machine (plain, inside DDP, one shard of FSDP), its named tensor is whole and on the CPU.
Optimizer state belongs to a parameter's name, not to its index, so neither the order of the groups nor the number of
ranks matters to it.
"""

from collections.abc import Set

import torch
from torch import Tensor, nn

from .. import distributed
from ..errors import ModelError

# How a group is computed on this machine. Everything else in a group is part of what is computed, and is restored.
EXECUTION = {"params", "param_names", "fused", "foreach", "capturable"}


def live_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers themselves; one that has several names (tied weights) once, under the first."""
    names: dict[Tensor, str] = {}
    for name, tensor in distributed.unwrap(model).state_dict(keep_vars=True).items():
        names.setdefault(tensor, name)
    return {name: tensor for tensor, name in names.items()}


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: _portable(tensor) for name, tensor in live_tensors(model).items()}


def apply_model(stored: dict[str, Tensor], model: nn.Module, source: object) -> None:
    """Copy `stored` into `model`. ModelError, and nothing is copied, unless names, shapes and dtypes all agree."""
    wanted = live_tensors(model)
    problems = _differences("tensors", stored.keys(), wanted.keys())
    for name in sorted(stored.keys() & wanted.keys()):
        old, new = stored[name], wanted[name]
        if old.shape != new.shape:
            problems.append(f"{name}: the checkpoint has shape {tuple(old.shape)}, the model {tuple(new.shape)}")
        elif old.dtype != new.dtype:
            problems.append(f"{name}: the checkpoint has {old.dtype}, the model {new.dtype}; cast after loading")
    if problems:
        raise ModelError("\n".join([f"{source} does not fit this model.", *_first(problems)]))
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(distributed.like(stored[name], tensor))


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict]:
    """Tensors "<parameter name>/<key>", and what is not a tensor, JSON-able: class, options of the groups, scalars."""
    names = {tensor: name for name, tensor in live_tensors(model).items()}
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, dict] = {}
    for p, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"{names[p]}/{key}"] = _portable(value)
            else:
                scalars.setdefault(names[p], {})[key] = value
    groups = [
        {
            "options": {key: value for key, value in group.items() if key not in EXECUTION},
            "parameters": [names[p] for p in group["params"]],
        }
        for group in optimizer.param_groups
    ]
    return tensors, {"class": type(optimizer).__name__, "groups": groups, "scalars": scalars}


def apply_optimizer(
    tensors: dict[str, Tensor], about: dict, model: nn.Module, optimizer: torch.optim.Optimizer, source: object
) -> None:
    """Give `optimizer`, built for `model`, the state and the options that `optimizer_tensors` took.

    ModelError, and nothing is changed, if it is of another class or optimizes other parameters.
    """
    if about["class"] != type(optimizer).__name__:
        raise ModelError(f"{source} is of the optimizer {about['class']}, this one is {type(optimizer).__name__}.")
    names = {tensor: name for name, tensor in live_tensors(model).items()}
    groups = {names[p]: (p, group) for group in optimizer.param_groups for p in group["params"]}
    options = {name: group["options"] for group in about["groups"] for name in group["parameters"]}
    state: dict[str, dict] = {name: dict(scalars) for name, scalars in about["scalars"].items()}
    for key, tensor in tensors.items():
        name, entry = key.rsplit("/", 1)
        state.setdefault(name, {})[entry] = tensor
    problems = _differences("optimized parameters", options.keys() | state.keys(), groups.keys())
    if problems:
        raise ModelError("\n".join([f"{source} does not fit this model.", *problems]))
    optimizer.state.clear()
    for name, entries in state.items():
        p, group = groups[name]
        optimizer.state[p] = {key: _placed(key, value, p, group) for key, value in entries.items()}
    for name, (_, group) in groups.items():
        for key, value in options[name].items():
            group[key] = tuple(value) if isinstance(group.get(key), tuple) else value


def _portable(tensor: Tensor) -> Tensor:
    """Whole, contiguous, on the CPU. Under FSDP every rank has to take part."""
    return distributed.full(tensor.detach()).cpu().contiguous()


def _placed(key: str, value: object, parameter: Tensor, group: dict) -> object:
    """A copy where the optimizer expects it: beside its parameter, but step counts of unfused ones on the CPU.

    Never a cast to the parameter's dtype, as `Optimizer.load_state_dict` does: float32 moments of bfloat16 weights
    have to stay what they are. A copy, because what comes from a file may be mapped from it and badly aligned.
    """
    if not isinstance(value, Tensor):
        return value
    if value.shape == parameter.shape:
        return distributed.like(value, parameter).clone()
    on_cpu = key == "step" and not (group.get("fused") or group.get("capturable"))
    return value.to("cpu" if on_cpu else parameter.device, copy=True)


def _differences(what: str, stored: Set[str], wanted: Set[str]) -> list[str]:
    missing, unexpected = sorted(wanted - stored), sorted(stored - wanted)
    lines = [f"{what} missing in the checkpoint: {', '.join(_first(missing))}"] if missing else []
    return lines + ([f"{what} that the model lacks: {', '.join(_first(unexpected))}"] if unexpected else [])


def _first(items: list[str], shown: int = 6) -> list[str]:
    return items[:shown] + ([f"... and {len(items) - shown} more"] if len(items) > shown else [])
