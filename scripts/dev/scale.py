"""Cost of a step on many GPUs: memory and communication per model size, from formulas and one measured number.

    python -m scripts.dev.scale             the tables of docs/scale.md
    python -m scripts.dev.scale --write     write them to the page

Weights, gradients and the two moments of AdamW are float32: 16 bytes per parameter. Under FSDP each of N GPUs holds 1/N
of that, and the gathered weights of one layer while it is used. Activation memory is measured: the tensors that
autograd saves for the backward pass, counted once per storage.
"""

import argparse
from dataclasses import dataclass

import torch
import yaml

from longrun.base.paths import ROOT
from longrun.doc_blocks import update_blocks
from model import build
from model.transformer import Transformer

PAGE = ROOT / "docs" / "scale.md"
SIZES = {"tiny": (2048, 128), "small": (8192, 512), "base": (50257, 1024)}  # vocabulary, length
GPUS = (8, 64, 1024)
FLOPS = 400e12  # per GPU in bf16, as reached by good code on an H100 (peak 989e12)
INSIDE, BETWEEN = 400e9, 50e9  # bytes/s per GPU: NVLink within a node; 400 Gb/s of network between nodes


@dataclass(frozen=True)
class Size:
    """layer: parameters of a layer.  saved, recomputed: bytes per token saved for the backward pass, without and with
    train.checkpoint_activations."""

    name: str
    parameters: int
    layer: int
    saved: float
    recomputed: float

    def state(self, gpus: int, parallel: str) -> float:
        """Bytes of weights, gradients and moments on one GPU."""
        whole = 16.0 * self.parameters
        return whole if parallel == "ddp" else whole / gpus + 2 * 4 * self.layer + 2 * 4 * self.outside(gpus)

    def outside(self, gpus: int) -> float:
        """Parameters gathered from forward to backward: embedding, output layer, encodings."""
        return (self.parameters - self.layers * self.layer) * (gpus - 1) / gpus

    @property
    def layers(self) -> int:
        return options(self.name)["layers"]

    def sent(self, gpus: int, parallel: str, micro_batches: int = 1) -> float:
        """Bytes that one GPU sends per step.

        DDP, by ring all-reduce: twice the gradients. FSDP: weights are gathered for forward and backward of each
        micro-batch, and gradients are scattered once.
        """
        share = 4.0 * self.parameters * (gpus - 1) / gpus
        return share * (2 if parallel == "ddp" else 2 * micro_batches + 1)


def enough_tokens(gpus: int, parallel: str) -> float:
    """Tokens per GPU and step from which computing (6 FLOPs per parameter and token) takes longer than sending.

    The number of parameters cancels out.
    """
    bandwidth = INSIDE if gpus <= 8 else BETWEEN
    return {"ddp": 8, "fsdp": 12}[parallel] / bandwidth * FLOPS / 6 * (gpus - 1) / gpus


def options(name: str) -> dict:
    values = yaml.safe_load((ROOT / "configs" / "model" / f"{name}.yaml").read_text())
    return {key: value for key, value in values.items() if key != "defaults"}


def measure(name: str) -> Size:
    vocabulary, length = SIZES[name]
    model = build(vocabulary, length, options(name), "rope")
    saved = [saved_bytes(model, length, checkpointing) / length for checkpointing in (False, True)]
    layer = sum(p.numel() for p in model.layers[0].parameters())
    return Size(name, model.parameter_count(), layer, *saved)


def saved_bytes(model: Transformer, length: int, checkpointing: bool) -> int:
    """Bytes that one sequence in bf16 autocast saves for its backward pass, without weights."""
    model.checkpoint_activations = checkpointing
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    storages: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage  # kept alive, so that no address is reused
        return tensor

    tokens = torch.zeros(1, length, dtype=torch.int64)
    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        loss = model(tokens, tokens)
    assert loss.isfinite()
    return sum(storage.nbytes() for storage in storages.values())


def tables(sizes: list[Size]) -> str:
    lines = [
        "| model | parameters | GPUs | DDP: state per GPU | FSDP: state per GPU | "
        "DDP: sent per step | FSDP: sent per step |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for size in sizes:
        for gpus in GPUS:
            cells = [f"{size.state(gpus, kind) / 1e6:,.0f} MB" for kind in ("ddp", "fsdp")]
            cells += [f"{size.sent(gpus, kind) / 1e6:,.0f} MB" for kind in ("ddp", "fsdp")]
            lines.append(f"| {size.name} | {size.parameters / 1e6:,.1f} M | {gpus} | {' | '.join(cells)} |")
    lines += [
        "",
        "| model | saved for the backward pass, per token | with `train.checkpoint_activations` |",
        "|---|---:|---:|",
    ]
    lines += [f"| {s.name} | {s.saved / 1e3:,.1f} kB | {s.recomputed / 1e3:,.1f} kB |" for s in sizes]
    lines += [
        "",
        "| GPUs | tokens per GPU and step from which sending takes less than half of the time | "
        "DDP, whole batch | FSDP, whole batch |",
        "|---:|---:|---:|---:|",
    ]
    for gpus in GPUS:
        ddp, fsdp = (enough_tokens(gpus, kind) for kind in ("ddp", "fsdp"))
        lines.append(f"| {gpus} | {ddp:,.0f} (DDP), {fsdp:,.0f} (FSDP) | {ddp * gpus:,.0f} | {fsdp * gpus:,.0f} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.dev.scale", description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="put the tables into docs/scale.md")
    text = tables([measure(name) for name in SIZES])
    if not parser.parse_args(arguments).write:
        print(text)
        return
    update_blocks(PAGE, {"tables": lambda: text})


if __name__ == "__main__":
    main()
