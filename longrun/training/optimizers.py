"""Optimizers and learning rate schedules by name.

optimizer = build_optimizer(model, "adamw", lr=3e-3)
for group in optimizer.param_groups:
    group["lr"] = lr * schedule(step, steps, warmup=100, kind="cosine")
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from model.distributed import full_tensor
from model.errors import ModelError


def build_optimizer(
    model: nn.Module,
    name: str = "adamw",
    lr: float = 3e-3,
    betas: tuple[float, float] = (0.9, 0.95),
    weight_decay: float = 0.1,
    eps: float = 1e-8,
    momentum: float = 0.95,
) -> torch.optim.Optimizer:
    """The optimizer of all parameters that require a gradient.

    name: "adamw", or "muon" (momentum orthogonalised, for the matrices inside the layers; AdamW for the rest).
    weight_decay: applies to tensors of two dimensions or more; not to norms, biases, nor to a parameter that its
    scheme marked with `p.no_decay = True`.  betas, eps: AdamW's.  momentum: Muon's.
    """
    if name not in OPTIMIZERS:
        raise ModelError(f"optim.name={name}: unknown. Known: {', '.join(OPTIMIZERS)}.")
    for key, value, good in [
        ("lr", lr, lr > 0),
        ("betas", betas, len(betas) == 2 and all(0 <= beta < 1 for beta in betas)),
        ("weight_decay", weight_decay, weight_decay >= 0),
        ("eps", eps, eps > 0),
        ("momentum", momentum, 0 <= momentum < 1),
    ]:
        if not good:
            raise ModelError(f"optim.{key}={value}: out of range; lr, eps > 0, weight_decay >= 0, others in [0, 1).")
    return OPTIMIZERS[name](model, lr, tuple(betas), weight_decay, eps, momentum)


def schedule(
    step: int,
    steps: int,
    warmup: int = 0,
    kind: str = "cosine",
    final: float = 0.1,
    decay_fraction: float = 0.2,
) -> float:
    """What to multiply the learning rate with at `step` (0-based) of `steps`: in (0, 1].

    The rate climbs linearly over the first `warmup` steps, is 1 at step `warmup`, and then
    "cosine"    falls on half a cosine, to `final` at step `steps` (arXiv 1608.03983)
    "wsd"       stays at 1 and falls linearly to `final` over the last `decay_fraction` of the steps (arXiv 2404.06395)
    "constant"  stays at 1; `final` does not matter
    """
    if kind not in KINDS:
        raise ModelError(f"optim.schedule={kind}: unknown. Known: {', '.join(KINDS)}.")
    if not 0 <= warmup <= steps:
        raise ModelError(f"warmup={warmup}: must lie between 0 and the number of steps, {steps}.")
    if not (0 <= final <= 1 and 0 <= decay_fraction <= 1):
        raise ModelError(f"final={final}, decay_fraction={decay_fraction}: both must lie between 0 and 1.")
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return KINDS[kind](min(step, steps), steps, warmup, final, decay_fraction)


def clip_gradients(model: nn.Module, limit: float | None) -> float:
    """Scale all gradients so that their common 2-norm is at most `limit`; returns the norm before, inf or nan included.

    limit: None only measures.  Under FSDP the norm is that of all shards, so call it on every rank.
    """
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), math.inf if limit is None else limit)
    return full_tensor(norm).item()


class MuonAdamW(torch.optim.Optimizer):
    """Two optimizers that look like one: one list of groups and one state, groups with `muon=True` go to Muon.

    Muon: https://kellerjordan.github.io/posts/muon; its step is scaled to the size of AdamW's (arXiv 2502.16982), so
    that one learning rate serves both.
    """

    def __init__(self, groups: list[dict], muon: torch.optim.Muon, adamw: torch.optim.AdamW):
        self._parts = {True: muon, False: adamw}
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for is_muon, part in self._parts.items():
            # Handed over at every step, because loading a state puts new objects in their place.
            part.param_groups = [group for group in self.param_groups if group["muon"] is is_muon]
            part.state = self.state
            part.step()
        return loss


def _adamw(model, lr, betas, weight_decay, eps, momentum) -> torch.optim.Optimizer:
    groups = _by_decay(list(model.parameters()), weight_decay)
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=_fused(model))


def _muon(model, lr, betas, weight_decay, eps, momentum) -> torch.optim.Optimizer:
    hidden = _hidden_matrices(model)
    inside = [p for p in model.parameters() if p in hidden]
    outside = [p for p in model.parameters() if p not in hidden]
    if not inside:
        raise ModelError("optim.name=muon: this model has no linear layer inside it. Use optim.name=adamw.")
    muon = torch.optim.Muon(_by_decay(inside, weight_decay), lr=lr, momentum=momentum, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(_by_decay(outside, weight_decay), lr=lr, betas=betas, eps=eps, fused=_fused(model))
    groups = [{**g, "muon": True} for g in muon.param_groups] + [{**g, "muon": False} for g in adamw.param_groups]
    return MuonAdamW(groups, muon, adamw)


OPTIMIZERS = {"adamw": _adamw, "muon": _muon}


def _by_decay(parameters: list[nn.Parameter], weight_decay: float) -> list[dict]:
    """One group with weight decay and one without, leaving out what is frozen or empty."""
    trained = [p for p in parameters if p.requires_grad]
    decayed = [p for p in trained if p.ndim >= 2 and not getattr(p, "no_decay", False)]
    rest = [p for p in trained if p.ndim < 2 or getattr(p, "no_decay", False)]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _hidden_matrices(model: nn.Module) -> set[Tensor]:
    """Weights of the linear layers that lead from activations to activations: not the output layer, no encoding's."""
    apart = {getattr(model, "output_weight", None), *getattr(model, "encodings", nn.Module()).parameters()}
    linear = {module.weight for module in model.modules() if isinstance(module, nn.Linear)}
    embedded = {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
    return linear - embedded - apart


def _fused(model: nn.Module) -> bool:
    """One kernel over all parameters instead of a dozen operations each."""
    return {p.device.type for p in model.parameters()} <= {"cpu", "cuda"}


def _cosine(step: int, steps: int, warmup: int, final: float, decay_fraction: float) -> float:
    progress = (step - warmup) / max(1, steps - warmup)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))


def _wsd(step: int, steps: int, warmup: int, final: float, decay_fraction: float) -> float:
    start = max(warmup, steps - round(decay_fraction * steps))
    if step <= start:
        return 1.0
    return 1 - (1 - final) * (step - start) / (steps - start)


def _constant(step: int, steps: int, warmup: int, final: float, decay_fraction: float) -> float:
    return 1.0


KINDS = {"cosine": _cosine, "wsd": _wsd, "constant": _constant}
