"""Models and optimizers as named tensors, and back. Names are those of `state_dict`, without the prefixes of wrappers.

Stored tensors are unsharded and on the CPU, whether the model is plain, inside DDP or sharded by FSDP. Optimizer state
is stored under the name of its parameter, so it does not depend on the order of the groups or the number of ranks.
"""

from collections.abc import Set

import torch
from torch import Tensor, nn

from .. import distributed
from ..errors import ModelError

# Options of a parameter group that select an implementation and do not change results. They are not restored.
IMPLEMENTATION_KEYS = {"params", "param_names", "fused", "foreach", "capturable"}


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name; a tensor with several names (tied weights) once, under the first."""
    names: dict[Tensor, str] = {}
    for name, tensor in distributed.unwrap(model).state_dict(keep_vars=True).items():
        names.setdefault(tensor, name)
    return {name: tensor for tensor, name in names.items()}


def full_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """The unsharded tensors of a model on the CPU. Collective under FSDP."""
    return {name: _to_cpu(tensor) for name, tensor in named_tensors(model).items()}


def load_state_dict(stored: dict[str, Tensor], model: nn.Module, source: object) -> None:
    """Copy `stored` into `model`.

    Raises ModelError, and copies nothing, unless names, shapes and dtypes all agree.
    """
    required = named_tensors(model)
    problems = _differences("tensors", stored.keys(), required.keys())
    for name in sorted(stored.keys() & required.keys()):
        old, new = stored[name], required[name]
        if old.shape != new.shape:
            problems.append(f"{name}: the checkpoint has shape {tuple(old.shape)}, the model {tuple(new.shape)}")
        elif old.dtype != new.dtype:
            problems.append(f"{name}: the checkpoint has {old.dtype}, the model {new.dtype}; cast after loading")
    if problems:
        raise ModelError("\n".join([f"{source} does not fit this model.", *_first(problems)]))
    with torch.no_grad():
        for name, tensor in required.items():
            tensor.copy_(distributed.shard_like(stored[name], tensor))


def optimizer_state_dict(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict]:
    """The state of an optimizer: tensors "<parameter name>/<key>", and the rest as JSON-serialisable values.

    The rest is the class, the options of the groups, and scalars.
    """
    names = {tensor: name for name, tensor in named_tensors(model).items()}
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, dict] = {}
    for p, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"{names[p]}/{key}"] = _to_cpu(value)
            else:
                scalars.setdefault(names[p], {})[key] = value
    groups = [
        {
            "options": {key: value for key, value in group.items() if key not in IMPLEMENTATION_KEYS},
            "parameters": [names[p] for p in group["params"]],
        }
        for group in optimizer.param_groups
    ]
    return tensors, {"class": type(optimizer).__name__, "groups": groups, "scalars": scalars}


def load_optimizer_state(
    tensors: dict[str, Tensor], about: dict, model: nn.Module, optimizer: torch.optim.Optimizer, source: object
) -> None:
    """Restore the results of `optimizer_state_dict` in `optimizer`, which was built for `model`.

    Raises ModelError, and changes nothing, if the optimizer has another class or other parameters.
    """
    if about["class"] != type(optimizer).__name__:
        raise ModelError(f"{source} is of the optimizer {about['class']}, this one is {type(optimizer).__name__}.")
    names = {tensor: name for name, tensor in named_tensors(model).items()}
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
        optimizer.state[p] = {key: _to_optimizer_device(key, value, p, group) for key, value in entries.items()}
    for name, (_, group) in groups.items():
        for key, value in options[name].items():
            group[key] = tuple(value) if isinstance(group.get(key), tuple) else value


def _to_cpu(tensor: Tensor) -> Tensor:
    """Unsharded, contiguous, on the CPU. Collective under FSDP."""
    return distributed.full_tensor(tensor.detach()).cpu().contiguous()


def _to_optimizer_device(key: str, value: object, parameter: Tensor, group: dict) -> object:
    """A copy on the device of its parameter; step counts of unfused optimizers stay on the CPU.

    `Optimizer.load_state_dict` is not used because it casts to the parameter's dtype, which would round the float32
    moments of bfloat16 weights. A copy, because a tensor from a file may be memory-mapped and badly aligned.
    """
    if not isinstance(value, Tensor):
        return value
    if value.shape == parameter.shape:
        return distributed.shard_like(value, parameter).clone()
    on_cpu = key == "step" and not (group.get("fused") or group.get("capturable"))
    return value.to("cpu" if on_cpu else parameter.device, copy=True)


def _differences(what: str, stored: Set[str], required: Set[str]) -> list[str]:
    missing, unexpected = sorted(required - stored), sorted(stored - required)
    lines = [f"{what} missing in the checkpoint: {', '.join(_first(missing))}"] if missing else []
    return lines + ([f"{what} that the model lacks: {', '.join(_first(unexpected))}"] if unexpected else [])


def _first(items: list[str], shown: int = 6) -> list[str]:
    return items[:shown] + ([f"... and {len(items) - shown} more"] if len(items) > shown else [])
