"""Part `training`: the training step of our schemes and of other libraries, side by side.

A step is the forward and backward pass over the same random tokens, with the mean cross-entropy over all of them. The
optimizer is the same work for every entry and left out by default; `--optimizer` adds a fused AdamW to every entry.
`--compile` applies to every entry.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from longrun.bench import baselines as peers
from longrun.bench.timing import Shape, Work, ceiling, flops_per_token, interleaved, medians, spread
from longrun.gallery.scheme_info import facts
from model import build
from model.errors import ModelError
from model.precision import autocast, resolve

RECOMPILES = 4096  # all models share one code object; torch.compile stops compiling it after its limit
Row = dict[str, Any]


@dataclass(frozen=True)
class Training:
    """Settings. schemes: names of configs/pe.  precision: auto, fp32, fp32_medium, bf16."""

    shape: Shape
    schemes: tuple[str, ...]
    precision: str = "auto"
    compile: bool = False
    optimizer: bool = False
    peers: bool = True
    rounds: int = 5


def run(job: Training, device: torch.device) -> Row:
    """The settings, and one row per entry: tokens/s, the ratio to NoPE, the share of the ceiling."""
    if job.compile:
        torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = RECOMPILES
    shape, precision = job.shape, resolve(job.precision, device)
    ours, refused = models(job, device)
    theirs, missing = peers.available() if job.peers else ({}, [])
    others = {name: peer(shape).to(device).train() for name, peer in theirs.items()}
    works = {name: step(model, job, device) for name, model in {**ours, **others}.items()}
    flops, products = ceiling(shape, precision, device)
    rounds = interleaved({**works, **products}, job.rounds, device)
    seconds = medians(rounds)
    ceiling_flops = max(flops / seconds.pop(name) for name in products)
    rows = []
    for name, model in {**ours, **others}.items():
        rate = shape.tokens / seconds[name]
        rows.append(
            {
                "name": name,
                "kind": "scheme" if name in ours else "peer",
                "family": facts(name).family if name in ours else None,
                "content": name in ours and by_content(model),
                "tokens_per_s": rate,
                "spread": spread(rounds[name]),
                "of_nope": seconds["nope"] / seconds[name],
                "of_ceiling": rate * flops_per_token(model, shape) / ceiling_flops,
            }
        )
    return {
        "settings": {
            "shape": asdict(shape), "precision": precision, "compile": job.compile, "optimizer": job.optimizer,
        },
        "rounds": job.rounds, "ceiling_gflops": ceiling_flops / 1e9, "rows": rows, "left_out": refused + missing,
    }  # fmt: skip


def models(job: Training, device: torch.device) -> tuple[dict[str, nn.Module], list[str]]:
    """Our models, always with NoPE; and one line per scheme that refuses this shape."""
    built: dict[str, nn.Module] = {}
    refused = []
    for name in dict.fromkeys(["nope", *job.schemes]):
        try:
            built[name] = build(job.shape.vocabulary, job.shape.length, job.shape.model, name).to(device)
        except ModelError as error:
            refused.append(f"{name}: {str(error).splitlines()[0]}")
    return built, refused


def by_content(model: Any) -> bool:
    """True if the logits depend on more than a dot product and positions, so that no kernel can fuse them."""
    components = [component for encoding in model.encodings for component in encoding.components()]
    return any(component.overrides("scores", "token_state", "content_features", "values") for component in components)


def step(model: nn.Module, job: Training, device: torch.device) -> Work:
    """One training step. Our model computes its own loss from the targets; its value is the same."""
    shape, takes_targets = job.shape, hasattr(model, "nll")
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(shape.vocabulary, (shape.batch, shape.length + 1), generator=draw).to(device)
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    if job.compile:
        model.compile()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True) if job.optimizer else None

    def loss() -> Tensor:
        with autocast(job.precision, device):
            return model(inputs, targets) if takes_targets else peers.cross_entropy(model(inputs), targets)

    def work() -> float:
        value = loss()
        value.backward()
        if optimizer is not None:
            optimizer.step()
        model.zero_grad(set_to_none=True)
        return value.item()

    return work


def format_result(result: Row) -> list[str]:
    settings = result["settings"]
    how = f"{settings['precision']}, {'compiled' if settings['compile'] else 'eager'}"
    lines = [f"training step, {Shape(**settings['shape'])}; {how}; ceiling {result['ceiling_gflops']:.0f} GFLOP/s"]
    lines += [
        f"  {row['name']:<30} {row['tokens_per_s']:10,.0f} tokens/s  ±{row['spread']:4.0%}  "
        f"{row['of_nope']:5.2f} of NoPE  {row['of_ceiling']:4.0%} of the ceiling"
        for row in result["rows"]
    ]
    return lines + [f"  left out: {line}" for line in result["left_out"]]
