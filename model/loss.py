"""Cross-entropy of a linear output layer without all logits in memory.

At 16k tokens and 50k words the logits alone are 3.3 GB in float32. Here they are computed for one block of tokens after
another. In training their gradient is taken in the forward pass, so that no tensor of size (tokens, vocabulary) is
saved for the backward pass.

Shapes: N tokens, D width, V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

UNSCORED = -100  # a target that is not scored, as in torch.nn.functional.cross_entropy

# Number of logits of a block, and the fewest tokens. On a CPU 4 MiB in float32 stay near the cache; training needs
# more, since each block costs a pass over the gradient of all weights. Accelerators need large products.
EVALUATION, TRAINING, ACCELERATOR = (2**20, 64), (2**21, 256), (2**27, 256)


def _rows(weight: Tensor, size: tuple[int, int]) -> int:
    logits, least = size if weight.device.type == "cpu" else ACCELERATOR
    return max(least, logits // len(weight))


def _compute_dtype(hidden: Tensor) -> torch.dtype:
    kind = hidden.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype


def token_nll(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """-log p(target) of each token, float32 (N,): hidden (N, D), weight (V, D), targets (N,). No gradient."""
    dtype = _compute_dtype(hidden)
    weight = weight.to(dtype)
    rows, blocks = _rows(weight, EVALUATION), []
    for h, t in zip(hidden.split(rows), targets.split(rows), strict=True):
        blocks.append(F.cross_entropy((h.to(dtype) @ weight.T).float(), t, reduction="none"))
    return torch.cat(blocks) if blocks else hidden.new_zeros(0, dtype=torch.float32)


def token_correct(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """True where no token is likelier than the target, bool (N,). Arguments as for `token_nll`."""
    dtype = _compute_dtype(hidden)
    weight = weight.to(dtype)
    rows, blocks = _rows(weight, EVALUATION), []
    for h, t in zip(hidden.split(rows), targets.split(rows), strict=True):
        blocks.append((h.to(dtype) @ weight.T).argmax(1) == t)
    return torch.cat(blocks) if blocks else torch.zeros(0, dtype=torch.bool, device=hidden.device)


def mean_nll(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of the scored targets, with gradient: hidden (..., D), weight (V, D), targets (...) -> ()."""
    scored = targets != UNSCORED
    host_sync_is_free = targets.device.type == "cpu" and not torch.compiler.is_compiling()
    if host_sync_is_free and not scored.all():  # elsewhere unscored targets are masked, without waiting for the device
        hidden, targets = hidden[scored], targets[scored]
    return _MeanNLL.apply(hidden.reshape(-1, hidden.shape[-1]), weight, targets.reshape(-1), _compute_dtype(hidden))


class _MeanNLL(torch.autograd.Function):
    """hidden (N, D), weight (V, D), targets (N,); products in `dtype`. With p = exp(x) / z the gradient of the logits x
    is p - onehot. The blocks share their buffers, because fresh memory costs as much as a pass over it."""

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        rows = max(1, min(_rows(weight, TRAINING), len(targets)))
        scored = (targets != UNSCORED)[:, None]
        count = scored.sum().clamp(min=1)
        indices = targets.clamp(min=0)[:, None]
        w = weight.to(dtype)
        logits = hidden.new_empty(rows, len(weight), dtype=dtype)
        logits_fp32 = logits if dtype == torch.float32 else torch.empty_like(logits, dtype=torch.float32)
        total = torch.zeros((), device=hidden.device)
        need = any(ctx.needs_input_grad[:2])
        d_hidden = torch.empty_like(hidden) if need else None
        d_weight = torch.zeros_like(weight, dtype=torch.float32) if need else None
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(targets), rows):
                block = slice(start, start + rows)
                h, t, is_scored = hidden[block].to(dtype), indices[block], scored[block]
                g, x = logits[: len(t)], logits_fp32[: len(t)]
                torch.mm(h, w.T, out=g)
                if logits_fp32 is not logits:
                    x.copy_(g)
                row_max, of_target = x.amax(1, keepdim=True), x.gather(1, t)
                z = x.sub_(row_max).exp_().sum(1, keepdim=True)
                total += ((z.log() + row_max - of_target) * is_scored).sum()
                if d_hidden is not None and d_weight is not None:
                    x.div_(z).scatter_add_(1, t, torch.full_like(t, -1, dtype=torch.float32))
                    if logits_fp32 is not logits:
                        g.copy_(x)
                    d_hidden[block] = (g @ w) * is_scored
                    d_weight += g.T @ (h * is_scored)
        if d_hidden is not None and d_weight is not None:
            ctx.save_for_backward(d_hidden.div_(count), d_weight.div_(count).to(weight.dtype))
        return total / count

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        d_hidden, d_weight = ctx.saved_tensors
        return d_hidden * gradient, d_weight * gradient, None, None
