"""Checkpoints: the complete state of a training run, in files that cannot run code.

checkpoints/<step>/
    model.safetensors       parameters and buffers by name
    optimizer.safetensors   "optimizer/<parameter name>/<key>" and "rng/<rank>/<generator>"
    state.json              the caller's own state
    manifest.json           bytes and sha256 of each file, the step, versions, world size, the caller's facts

save(run / "checkpoints", step, model, optimizer, state)
checkpoint = newest(run / "checkpoints")
if checkpoint is not None:
    load_model(checkpoint, model); load_optimizer(checkpoint, model, optimizer); load_rng(checkpoint, rank)
"""

import json
import logging
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass
from os import strerror
from pathlib import Path

import numpy as np
import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .. import distributed
from ..errors import ModelError
from ..old_keys import rename_all
from . import atomic_dir
from .rng import rng_state, set_rng_state
from .state_dict import full_state_dict, load_optimizer_state, load_state_dict, optimizer_state_dict

MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A verified folder. facts: stated when it was saved: versions, world size, and the caller's own."""

    folder: Path
    step: int
    state: dict
    facts: dict

    def require(self, **facts: object) -> None:
        """Raises ModelError, with both values, for every fact that differs from the stored one.

        Of a mapping (the options of a model) only the keys in both are compared, because later versions add options.
        """
        lines = [
            f"{name}: the checkpoint has {old!r}, this run {new!r}"
            for key, value in facts.items()
            for name, old, new in _different(key, self.facts.get(key), value)
        ]
        if lines:
            raise ModelError("\n".join([f"{self.folder} does not belong to this run.", *lines]))

    def tensors(self, file: str, prefix: str = "") -> dict[str, Tensor]:
        """The tensors of a file whose names start with `prefix`, without the prefix."""
        try:
            stored = load_file(self.folder / file)
        except (safetensors.SafetensorError, OSError) as error:
            raise ModelError(f"{self.folder / file}: not a safetensors file ({error}).") from error
        return {name.removeprefix(prefix): tensor for name, tensor in stored.items() if name.startswith(prefix)}


def save(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: dict,
    keep: int = 2,
    facts: dict | None = None,
) -> Path:
    """Write checkpoints/<step> atomically, then remove all but the newest `keep`. Collective: call it on every rank.

    model: plain or wrapped by `distributed.wrap`.
    state, facts: JSON-serialisable; facts go to the manifest, for `Checkpoint.require`.
    Raises OSError on every rank if the disk is full; earlier checkpoints are unchanged then.
    """
    if keep < 1:
        raise ModelError(f"checkpoint.keep={keep}: expected 1 or more.")
    text = json.dumps(state, indent=1)
    weights = full_state_dict(model)
    moments, about = optimizer_state_dict(model, optimizer)
    moments = {f"optimizer/{name}": tensor for name, tensor in moments.items()}
    for rank, generators in enumerate(distributed.gather_tensors(rng_state())):
        moments |= {f"rng/{rank}/{name}": tensor for name, tensor in generators.items()}
    facts = {**(facts or {}), "step": step, "versions": _versions(), "world_size": distributed.world_size()}

    def write() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        atomic_dir.sync(folder.parent)
        atomic_dir.clean(folder)
        with atomic_dir.atomic_directory(folder / str(step), facts) as temporary:
            _save_tensors(temporary / MODEL, weights)
            _save_tensors(temporary / OPTIMIZER, moments, {"optimizer": json.dumps(about)})
            (temporary / STATE).write_text(text)
        _prune(folder, step, keep)

    _on_first_rank(write, f"checkpoint of step {step} not saved; the earlier ones in {folder} are valid")
    return folder / str(step)


def open(path: Path) -> Checkpoint:  # noqa: A001 (to be read as checkpoint.open)
    """The verified checkpoint in the folder `path`. Raises ModelError with the file and the damage."""
    path = Path(path)
    if not path.is_dir():
        raise ModelError(f"{path}: no such checkpoint folder.")
    facts = rename_all(atomic_dir.verify(path))
    if absent := {MODEL, OPTIMIZER, STATE} - set(facts["files"]):
        raise ModelError(f"{path / atomic_dir.MANIFEST}: does not list {', '.join(sorted(absent))}.")
    step = facts.get("step")
    if not isinstance(step, int):
        raise ModelError(f"{path / atomic_dir.MANIFEST}: step {step!r} is not a number.")
    try:
        state = json.loads((path / STATE).read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path / STATE}: not JSON ({error}).") from error
    if not isinstance(state, dict):
        raise ModelError(f"{path / STATE}: expected a mapping, found a {type(state).__name__}.")
    return Checkpoint(path, step, state, facts)


def newest(folder: Path) -> Checkpoint | None:
    """The newest valid checkpoint under `folder`; None if there is no checkpoint.

    Damaged ones are skipped with one warning. Raises ModelError if all are damaged, because starting silently from
    scratch would throw a run away.
    """
    problems = []
    for number, path in reversed(atomic_dir.list_checkpoints(Path(folder)).items()):
        try:
            checkpoint = open(path)
            if checkpoint.step != number:
                raise ModelError(f"{path}: holds step {checkpoint.step}, not {number}.")
        except ModelError as error:
            problems.append(str(error))
            continue
        if problems:
            log.warning("Damaged checkpoint, continuing from step %d instead: %s", number, " ".join(problems))
        return checkpoint
    if problems:
        raise ModelError(
            "\n".join(["No checkpoint of this run is valid:", *problems, f"Remove {folder} to start again."])
        )
    return None


def load_model(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Copy the parameters and buffers into `model`.

    Raises ModelError, and copies nothing, unless names, shapes and dtypes all agree.
    """
    load_state_dict(checkpoint.tensors(MODEL), model, checkpoint.folder / MODEL)


def load_optimizer(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Restore state and options of `optimizer`, which was built for `model`.

    Raises ModelError if it has another class or other parameters.
    """
    file = checkpoint.folder / OPTIMIZER
    tensors = checkpoint.tensors(OPTIMIZER, "optimizer/")
    try:
        with safetensors.safe_open(file, framework="pt") as stream:
            about = json.loads(stream.metadata()["optimizer"])
        load_optimizer_state(tensors, about, model, optimizer, file)
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ModelError(f"{file}: its description of the optimizer is malformed ({error!r}).") from error


def load_rng(checkpoint: Checkpoint, rank: int = 0) -> bool:
    """Restore the random state of this rank; return False, without any change, if none was stored for it."""
    state = checkpoint.tensors(OPTIMIZER, f"rng/{rank}/")
    if state:
        set_rng_state(state)
    return bool(state)


def _save_tensors(file: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    seen: set[int] = set()
    for name, tensor in tensors.items():  # safetensors refuses tensors that share memory
        memory = tensor.untyped_storage().data_ptr()
        if memory in seen:
            tensors[name] = tensor.clone()
        seen.add(memory)
    try:
        save_file(tensors, file, metadata)
    except safetensors.SafetensorError as error:  # the number of the operating system's error is only in the text
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), strerror(int(number[1])), str(file)) from error


def _on_first_rank(write: Callable[[], None], what_failed: str) -> None:
    """Call `write` on rank 0 while the others wait. All ranks raise OSError if it fails."""
    failure: OSError | None = None
    if distributed.rank() == 0:
        try:
            write()
        except OSError as error:
            failure = error
    reason = distributed.broadcast_object(
        None if failure is None else [failure.errno, failure.strerror or str(failure)]
    )
    if reason is not None:
        number, text = reason
        advice = "Free some space or lower checkpoint.keep, then start the same command again."
        raise OSError(number, f"{text}: {what_failed}. {advice}") from failure


def _prune(folder: Path, step: int, keep: int) -> None:
    """Keep the newest `keep` up to `step`. Later ones are from before a restart; the damaged ones are removed."""
    folders = atomic_dir.list_checkpoints(folder)
    for number in [n for n in folders if n <= step][:-keep]:
        atomic_dir.remove(folders[number])
    for number in [n for n in folders if n > step]:
        try:
            atomic_dir.verify(folders[number])
        except ModelError:
            atomic_dir.remove(folders[number])


def _different(key: str, old: object, new: object) -> list[tuple[str, object, object]]:
    """Dotted key, old and new value of every difference."""
    if isinstance(new, dict):
        stored = old if isinstance(old, dict) else {}
        return [d for k in new if k in stored for d in _different(f"{key}.{k}", stored[k], new[k])]
    return [] if old == new else [(key, old, new)]


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "safetensors": safetensors.__version__,
        "numpy": np.__version__,
    }
