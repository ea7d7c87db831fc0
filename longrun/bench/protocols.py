"""Part `protocols`: time and peak memory of each protocol far beyond the training length, and `sliding` against its
usual implementation.

All protocols measure the same random documents with their default options, through the code of eval.py. The memory of
each protocol is measured in its own process, above that of the model and the text.

The usual implementation of `sliding` feeds one window after the other, computes the logits of every token in float32,
and takes a cross-entropy that ignores the targets of earlier windows. Ours batches windows and computes the logits of
scored tokens only. Both score the same tokens with the same model, and their agreement is checked.
"""

import multiprocessing
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from data import windows as w
from data.dataset import prepare
from longrun.bench.evaluation import MIB, RETURN_FREED_MEMORY, peak
from longrun.bench.timing import Shape, Work, interleaved, medians
from longrun.evaluation.protocols import registry as protocols
from longrun.evaluation.scoring import score
from model import build
from model.precision import autocast, resolve
from model.transformer import UNSCORED, Transformer

Row = dict[str, Any]
MEASURED = ("fixed_targets", "nonoverlap", "sliding", "last_k", "per_position", "needle")
LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz   "))


@dataclass(frozen=True)
class Protocols:
    """shape: the model; its `length` is the training length."""

    shape: Shape
    scheme: str = "rope"
    precision: str = "auto"
    far: int = 16  # windows of the protocols, in training lengths
    slid: int = 4  # windows of the comparison of `sliding`, in training lengths
    documents: int = 2  # each as long as two windows and a half
    strides: tuple[float, ...] = (0.5, 0.125)  # of `sliding`, as shares of the window
    rounds: int = 3


def run(job: Protocols, device: torch.device) -> Row:
    settings = {**asdict(job), "precision": resolve(job.precision, device)}
    del settings["rounds"]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        rows, slid = costs(job, Path(folder), device), sliding(job, Path(folder), device)
    return {"settings": settings, "rounds": job.rounds, "rows": rows, "sliding": slid}


def costs(job: Protocols, folder: Path, device: torch.device) -> list[Row]:
    """One row per protocol."""
    model, length = _model(job, device), job.far * job.shape.length
    selections = {name: selected(name, job, length, folder) for name in MEASURED}
    seconds = medians(
        interleaved({name: _ours(model, each, job) for name, each in selections.items()}, job.rounds, device)
    )
    return [
        {
            "protocol": name, "length": length, "windows": len(each.windows), **_counts(each),
            "seconds": seconds[name], "peak_mib": _peak_in_child(job, name, folder, device),
        }
        for name, each in selections.items()
    ]  # fmt: skip


def sliding(job: Protocols, folder: Path, device: torch.device) -> list[Row]:
    """One row per stride."""
    model, length = _model(job, device), job.slid * job.shape.length
    data = _text(job, length, folder)
    tokens, offsets = data.tokens("test"), data.documents("test")
    slid = {
        share: w.Selection(tokens, offsets, w.sliding(offsets, length, max(1, int(share * length))))
        for share in job.strides
    }
    works: dict[str, Work] = {}
    for share, each in slid.items():
        works |= {f"ours {share}": _ours(model, each, job), f"usual {share}": _usual(model, each, job)}
        assert torch.allclose(works[f"ours {share}"](), works[f"usual {share}"](), atol=0.1), "not the same numbers"
    seconds = medians(interleaved(works, job.rounds, device))
    return [
        {
            "stride": share, "length": length, "windows": len(each.windows), **_counts(each),
            "seconds": seconds[f"ours {share}"], "usual_seconds": seconds[f"usual {share}"],
            "speed_up": seconds[f"usual {share}"] / seconds[f"ours {share}"],
        }
        for share, each in slid.items()
    ]  # fmt: skip


def selected(name: str, job: Protocols, length: int, folder: Path) -> w.Selection:
    """The tokens that the protocol feeds and scores, with its default options except for shorter targets and fewer
    questions."""
    changes = {"targets": min(64, job.shape.length), "k": min(64, job.shape.length), "trials": 2, "depths": [0, 0.5, 1]}
    options = {key: value for key, value in changes.items() if key in protocols.load(name).declared()}
    selection = protocols.create(name, **options).select(_text(job, length, folder), [length])[length]
    assert isinstance(selection, w.Selection)
    return selection


def _peak_in_child(job: Protocols, name: str, folder: Path, device: torch.device) -> float:
    """Peak MiB in a fresh process, in which freed memory returns to the OS."""
    fresh, before = multiprocessing.get_context("forkserver"), dict(os.environ)
    fresh.set_forkserver_preload([__name__])  # imported once
    os.environ.update(RETURN_FREED_MEMORY)  # inherited by the server, which reads it at its start
    try:
        with ProcessPoolExecutor(1, mp_context=fresh) as pool:
            return pool.submit(_peak, job, name, folder, device, torch.get_num_threads()).result()
    finally:
        os.environ.clear()
        os.environ.update(before)


def _peak(job: Protocols, name: str, folder: Path, device: torch.device, threads: int) -> float:
    torch.set_num_threads(threads)
    model = _model(job, device)
    _ours(model, selected("last_k", job, job.shape.length, folder), job)()  # first-use buffers of the libraries
    return peak(_ours(model, selected(name, job, job.far * job.shape.length, folder), job), device) / MIB


def _model(job: Protocols, device: torch.device) -> Transformer:
    return build(job.shape.vocabulary, job.shape.length, job.shape.model, job.scheme).to(device).eval()


def _text(job: Protocols, length: int, folder: Path) -> Any:
    """Documents of random letters for windows of `length`, one token per letter; written once."""
    text = folder / str(length)
    if not text.exists():
        text.mkdir()
        rng = np.random.default_rng(0)
        for number in range(job.documents):
            (text / f"{number}.txt").write_text("".join(rng.choice(LETTERS, length * 5 // 2)))
    options = {"name": "text", "source": "text", "path": str(text), "pattern": "*.txt", "tokenizer": "byte"}
    return prepare(
        {**options, "valid_fraction": 0.0, "test_fraction": 1.0, "cache": str(folder / "cache")}, progress=False
    )


def _counts(selection: w.Selection) -> Row:
    return {"fed": int(selection.windows.feed_lengths.sum()), "scored": selection.windows.targets}


def _ours(model: Transformer, selection: w.Selection, job: Protocols) -> Work:
    token_bytes = np.ones(job.shape.vocabulary, np.int64)
    return lambda: torch.from_numpy(score(model, selection, token_bytes, precision=job.precision).nll)


@torch.no_grad()
def _usual_nll(model: Transformer, selection: w.Selection, precision: str) -> torch.Tensor:
    device, parts = model.embedding.weight.device, []
    for row in range(len(selection.windows)):
        rows = np.array([row])
        inputs, targets = (torch.from_numpy(a).to(device) for a in w.gather(selection.windows, selection.tokens, rows))
        with autocast(precision, device):
            logits = model(inputs)
        nll = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=UNSCORED, reduction="none")
        parts.append(nll[targets.flatten() != UNSCORED].cpu())
    return torch.cat(parts)


def _usual(model: Transformer, selection: w.Selection, job: Protocols) -> Work:
    return lambda: _usual_nll(model, selection, job.precision)


def format_result(result: Row) -> list[str]:
    lines = [f"protocols, {Shape(**result['settings']['shape'])}, {result['settings']['precision']}"]
    for row in result["rows"]:
        lines.append(
            f"  {row['protocol']:<14} T={row['length']:,} {row['fed']:>9,} fed {row['scored']:>9,} scored "
            f"{row['seconds']:7.2f} s {row['fed'] / row['seconds']:8,.0f} fed/s {row['peak_mib']:5,.0f} MiB"
        )
    for row in result["sliding"]:
        lines.append(
            f"  sliding, T={row['length']:,}, stride {row['stride']:g} T: {row['seconds']:.2f} s, usual way "
            f"{row['usual_seconds']:.2f} s: {row['speed_up']:.2f} times as fast"
        )
    return lines
