"""Checkpoints: everything that a run needs to continue exactly, in files that cannot run code.

checkpoints/<step>/
    model.safetensors       parameters and buffers by name
    optimizer.safetensors   "optimizer/<parameter name>/<key>" and "rng/<rank>/<generator>"
    state.json              the caller's own state
    manifest.json           bytes and sha256 of each file, the step, versions, world size, the caller's facts

save(run / "checkpoints", step, model, optimizer, state)
found = newest(run / "checkpoints")
if found is not None:
    load_model(found, model); load_optimizer(found, model, optimizer); load_rng(found, rank)
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
from . import atomic_dir
from .rng import rng_state, set_rng_state
from .state_dict import apply_model, apply_optimizer, model_tensors, optimizer_tensors

MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A folder whose every byte was checked. `facts` is what the saver stated: versions, world size, its own facts."""

    folder: Path
    step: int
    state: dict
    facts: dict

    def require(self, **facts: object) -> None:
        """ModelError naming both values of every fact that differs from what the saver stated.

        Of a mapping (the options of a model) those keys are compared that both have: options are added over the years.
        """
        lines = [
            f"{name}: the checkpoint has {old!r}, this run {new!r}"
            for key, value in facts.items()
            for name, old, new in _different(key, self.facts.get(key), value)
        ]
        if lines:
            raise ModelError("\n".join([f"{self.folder} does not belong to this run.", *lines]))

    def tensors(self, file: str, prefix: str = "") -> dict[str, Tensor]:
        """Tensors of one of the files whose names start with `prefix`, which is cut off."""
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
    """Write checkpoints/<step> whole or not at all, then remove all but the newest `keep`. Call it on every rank.

    model: plain or wrapped by `parallel.wrap`.  state, facts: JSON-able; facts go to the manifest, for `require`.
    Raises OSError on every rank if the disk is full; then the earlier checkpoints are as they were.
    """
    if keep < 1:
        raise ModelError(f"checkpoint.keep={keep}: at least 1 checkpoint has to stay.")
    text = json.dumps(state, indent=1)
    weights = model_tensors(model)
    moments, about = optimizer_tensors(model, optimizer)
    moments = {f"optimizer/{name}": tensor for name, tensor in moments.items()}
    for rank, generators in enumerate(distributed.gather_tensors(rng_state())):
        moments |= {f"rng/{rank}/{name}": tensor for name, tensor in generators.items()}
    facts = {**(facts or {}), "step": step, "versions": _versions(), "world_size": distributed.world_size()}

    def write() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        atomic_dir.sync(folder.parent)
        atomic_dir.clean(folder)
        with atomic_dir.publish(folder / str(step), facts) as temporary:
            _save_tensors(temporary / MODEL, weights)
            _save_tensors(temporary / OPTIMIZER, moments, {"optimizer": json.dumps(about)})
            (temporary / STATE).write_text(text)
        _prune(folder, step, keep)

    _on_first_rank(write, f"checkpoint of step {step} not saved; the earlier ones in {folder} are whole")
    return folder / str(step)


def open(path: Path) -> Checkpoint:  # noqa: A001 (to be read as checkpoint.open)
    """The checkpoint in the folder `path`, verified. ModelError naming the file and what is wrong with it."""
    path = Path(path)
    if not path.is_dir():
        raise ModelError(f"{path}: no such checkpoint folder.")
    facts = atomic_dir.verify(path)
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
        raise ModelError(f"{path / STATE}: a {type(state).__name__} where a mapping belongs.")
    return Checkpoint(path, step, state, facts)


def newest(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint under `folder`, None if there is none at all.

    Damaged ones are passed over with one warning. If all are damaged: ModelError, because starting silently from
    nothing would throw a run away.
    """
    problems = []
    for number, path in reversed(atomic_dir.entries(Path(folder)).items()):
        try:
            found = open(path)
            if found.step != number:
                raise ModelError(f"{path}: holds step {found.step}, not {number}.")
        except ModelError as error:
            problems.append(str(error))
            continue
        if problems:
            log.warning("Damaged checkpoint, continuing from step %d instead: %s", number, " ".join(problems))
        return found
    if problems:
        raise ModelError(
            "\n".join(["No checkpoint of this run is whole:", *problems, f"Remove {folder} to start again."])
        )
    return None


def load_model(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Copy the parameters and buffers into `model`. Names, shapes and dtypes must agree, else ModelError, no change."""
    apply_model(checkpoint.tensors(MODEL), model, checkpoint.folder / MODEL)


def load_optimizer(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Give `optimizer`, built for `model`, the saver's state and options. ModelError if it is of another make."""
    file = checkpoint.folder / OPTIMIZER
    tensors = checkpoint.tensors(OPTIMIZER, "optimizer/")
    try:
        with safetensors.safe_open(file, framework="pt") as stream:
            about = json.loads(stream.metadata()["optimizer"])
        apply_optimizer(tensors, about, model, optimizer, file)
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ModelError(f"{file}: does not describe its optimizer as ours do ({error!r}).") from error


def load_rng(checkpoint: Checkpoint, rank: int = 0) -> bool:
    """Continue the saver's random numbers on this rank; False, and nothing is touched, if it had no such rank."""
    state = checkpoint.tensors(OPTIMIZER, f"rng/{rank}/")
    if state:
        set_rng_state(state)
    return bool(state)


def _save_tensors(file: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    seen: set[int] = set()
    for name, tensor in tensors.items():  # safetensors refuses two views of one memory; they may stay two tensors
        memory = tensor.untyped_storage().data_ptr()
        if memory in seen:
            tensors[name] = tensor.clone()
        seen.add(memory)
    try:
        save_file(tensors, file, metadata)
    except safetensors.SafetensorError as error:  # it hides the number of the operating system's error in its text
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), strerror(int(number[1])), str(file)) from error


def _on_first_rank(write: Callable[[], None], what_failed: str) -> None:
    """Call `write` on rank 0. No rank goes on, or exits, before it is done; if the disk fails it, all raise OSError."""
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
    """Keep the newest `keep` up to `step`. Later ones are of a future that was given up; the damaged ones go."""
    found = atomic_dir.entries(folder)
    for number in [n for n in found if n <= step][:-keep]:
        atomic_dir.remove(found[number])
    for number in [n for n in found if n > step]:
        try:
            atomic_dir.verify(found[number])
        except ModelError:
            atomic_dir.remove(found[number])


def _different(key: str, old: object, new: object) -> list[tuple[str, object, object]]:
    """Dotted key, old and new value of everything that differs."""
    if isinstance(new, dict):
        stated = old if isinstance(old, dict) else {}
        return [d for k in new if k in stated for d in _different(f"{key}.{k}", stated[k], new[k])]
    return [] if old == new else [(key, old, new)]


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "safetensors": safetensors.__version__,
        "numpy": np.__version__,
    }
