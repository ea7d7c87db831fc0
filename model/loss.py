"""Cross-entropy of a linear output layer without ever holding all the logits.

At 16k tokens and 50k words the logits alone are 3.3 GB in float32. Here they exist for a block of tokens at a time, and
in training their gradient is taken in the forward pass: nothing of size (tokens, vocabulary) is kept for the backward.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

UNSCORED = -100  # a target that is not scored, as in torch.nn.functional.cross_entropy

# Logits held at a time, and the fewest tokens of a block. On a CPU 4 MiB in float32 stay near the cache; training wants
# more, since each block costs a pass over the gradient of the whole weight. Accelerators want large products.
EVALUATION, TRAINING, ACCELERATOR = (2**20, 64), (2**21, 256), (2**27, 256)


def _rows(weight: Tensor, block: tuple[int, int]) -> int:
    logits, least = block if weight.device.type == "cpu" else ACCELERATOR
    return max(least, logits // len(weight))


def _compute_dtype(hidden: Tensor) -> torch.dtype:
    kind = hidden.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype


def token_nll(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """-log p(target) of each token, float32 (N,): hidden (N, D), weight (V, D), targets (N,). No gradient."""
    dtype = _compute_dtype(hidden)
    weight = weight.to(dtype)
    rows, parts = _rows(weight, EVALUATION), []
    for h, t in zip(hidden.split(rows), targets.split(rows), strict=True):
        parts.append(F.cross_entropy((h.to(dtype) @ weight.T).float(), t, reduction="none"))
    return torch.cat(parts) if parts else hidden.new_zeros(0, dtype=torch.float32)


def token_correct(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """True where no token is likelier than the target, bool (N,). Arguments as for `token_nll`."""
    dtype = _compute_dtype(hidden)
    weight = weight.to(dtype)
    rows, parts = _rows(weight, EVALUATION), []
    for h, t in zip(hidden.split(rows), targets.split(rows), strict=True):
        parts.append((h.to(dtype) @ weight.T).argmax(1) == t)
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.bool, device=hidden.device)


def mean_nll(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of the scored targets, with gradient: hidden (..., D), weight (V, D), targets (...) -> ()."""
    scored = targets != UNSCORED
    looking_is_free = targets.device.type == "cpu" and not torch.compiler.is_compiling()
    if looking_is_free and not scored.all():  # elsewhere the host would wait for the device: there they are masked
        hidden, targets = hidden[scored], targets[scored]
    return _MeanNLL.apply(hidden.reshape(-1, hidden.shape[-1]), weight, targets.reshape(-1), _compute_dtype(hidden))


class _MeanNLL(torch.autograd.Function):
    """hidden (N, D), weight (V, D), targets (N,); products in `dtype`. With p = exp(x) / z the gradient of the logits x
    is p - onehot. The blocks share their buffers: fresh memory for each costs as much as a pass over it."""

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        rows = max(1, min(_rows(weight, TRAINING), len(targets)))
        scored = (targets != UNSCORED)[:, None]
        count = scored.sum().clamp(min=1)
        places = targets.clamp(min=0)[:, None]
        w = weight.to(dtype)
        logits = hidden.new_empty(rows, len(weight), dtype=dtype)
        floats = logits if dtype == torch.float32 else torch.empty_like(logits, dtype=torch.float32)
        total = torch.zeros((), device=hidden.device)
        need = any(ctx.needs_input_grad[:2])
        d_hidden = torch.empty_like(hidden) if need else None
        d_weight = torch.zeros_like(weight, dtype=torch.float32) if need else None
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(targets), rows):
                part = slice(start, start + rows)
                h, t, known = hidden[part].to(dtype), places[part], scored[part]
                g, x = logits[: len(t)], floats[: len(t)]
                torch.mm(h, w.T, out=g)
                if floats is not logits:
                    x.copy_(g)
                largest, of_target = x.amax(1, keepdim=True), x.gather(1, t)
                z = x.sub_(largest).exp_().sum(1, keepdim=True)
                total += ((z.log() + largest - of_target) * known).sum()
                if d_hidden is not None and d_weight is not None:
                    x.div_(z).scatter_add_(1, t, torch.full_like(t, -1, dtype=torch.float32))
                    if floats is not logits:
                        g.copy_(x)
                    d_hidden[part] = (g @ w) * known
                    d_weight += g.T @ (h * known)
        if d_hidden is not None and d_weight is not None:
            ctx.save_for_backward(d_hidden.div_(count), d_weight.div_(count).to(weight.dtype))
        return total / count

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        d_hidden, d_weight = ctx.saved_tensors
        return d_hidden * gradient, d_weight * gradient, None, None
