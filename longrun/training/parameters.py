"""Parameters of a model, grouped for an optimizer, and their gradients."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from model.distributed import full_tensor


def by_decay(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict]:
    """Parameter groups for torch: one with weight decay and one without. Frozen parameters and empty groups are left
    out.

    Tensors of two dimensions or more decay; norms, biases and a parameter with `p.no_decay = True` do not.
    """
    trained = [p for p in parameters if p.requires_grad]
    decayed = [p for p in trained if p.ndim >= 2 and not getattr(p, "no_decay", False)]
    rest = [p for p in trained if p.ndim < 2 or getattr(p, "no_decay", False)]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def hidden_matrices(model: nn.Module) -> set[Tensor]:
    """Weights of the linear layers from activations to activations: without embeddings, the output layer and the
    networks of position encodings."""
    excluded = {getattr(model, "output_weight", None), *getattr(model, "encodings", nn.Module()).parameters()}
    linear = {module.weight for module in model.modules() if isinstance(module, nn.Linear)}
    embedded = {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
    return linear - embedded - excluded


def supports_fused(model: nn.Module) -> bool:
    """Return whether torch can update all parameters in one kernel in place of a dozen operations each."""
    return {p.device.type for p in model.parameters()} <= {"cpu", "cuda"}


def clip_gradients(model: nn.Module, limit: float | None) -> float:
    """Scale all gradients so that their common 2-norm is at most `limit`; returns the norm before, inf or nan included.

    limit: None only measures.  Under FSDP the norm is that of all shards, so call it on every rank.
    """
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), math.inf if limit is None else limit)
    return full_tensor(norm).item()
