"""Runs to start other runs from: their settings, and a run folder with a checkpoint of random weights."""

from pathlib import Path

import torch
import yaml

from data.tokenizers.bpe import train_bpe
from model import build
from model.checkpoint import files as checkpoint

SIZES = {"layers": 2, "width": 32, "heads": 4}
SMALL = [
    "train.length=16", "train.steps=2", "train.batch=4", "train.log_every=1", "train.valid_every=2",
    "train.valid_windows=4", "train.precision=fp32", "train.threads=1", "tracker=off", "eval.ratios=[1,2]",
    "eval.targets=8", "eval.documents=4", "eval.control=false", "data=text", "optim.lr=0.0001",
]  # fmt: skip


def run_folder(folder: Path, pe: str = "rope", **options) -> Path:
    """What train.py leaves of a run at length 16, with a tokenizer of 300 tokens."""
    model = build(300, 16, SIZES, pe, **options)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    checkpoint.save(folder / "checkpoints", 1, model, optimizer, {"model": model.config})
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": {"name": "mine"}, "train": {"length": 16}}))
    train_bpe(["one two three four " * 30, "".join(map(chr, range(32, 300)))], 300).save(folder)
    return folder


def only(root: Path) -> Path:
    (folder,) = (path.parent for path in root.glob("*/config.yaml"))
    return folder
