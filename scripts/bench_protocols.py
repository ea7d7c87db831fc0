"""Part `protocols`: what each protocol costs on the same documents, and `sliding` against how it is usually done.

Usually: one window after the other through the model, the logits of every token in float32, and a cross-entropy that
ignores what an earlier window has scored. Ours is `eval.score`, the code of every evaluation: windows in batches, and
logits of the scored tokens only. Both score the same tokens with the same model; that they agree is checked.
"""

from dataclasses import asdict, dataclass
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F

from data import windows as w
from data.protocols import base as protocols
from eval import score
from model import build
from model.precision import autocast, resolve
from model.transformer import UNSCORED, Transformer

from .bench_clock import Shape, Work, interleaved, medians

Row = dict[str, object]
TEXT = ("fixed_targets", "nonoverlap", "sliding", "last_k", "per_position")


@dataclass(frozen=True)
class Protocols:
    """shape: its `length` is that of the windows.  documents: how many, each as long as two windows and a half."""

    shape: Shape
    scheme: str = "rope"
    precision: str = "auto"
    documents: int = 4
    strides: tuple[float, ...] = (0.5, 0.125)  # of sliding, as shares of the length
    rounds: int = 3


def run(job: Protocols, device: torch.device) -> Row:
    shape = job.shape
    model = build(shape.vocabulary, shape.length, shape.model, job.scheme).to(device).eval()
    each = shape.length * 5 // 2
    tokens = np.random.default_rng(0).integers(1, shape.vocabulary, job.documents * each)
    offsets = np.arange(job.documents + 1) * each
    selections = {name: _select(name, tokens, offsets, shape.length) for name in TEXT}
    slid = {
        share: w.Selection(tokens, offsets, w.sliding(offsets, shape.length, max(1, int(share * shape.length))))
        for share in job.strides
    }
    works: dict[str, Work] = {name: _ours(model, selection, job) for name, selection in selections.items()}
    for share, selection in slid.items():
        works |= {f"ours {share}": _ours(model, selection, job), f"usual {share}": _usual(model, selection, job)}
        assert torch.allclose(works[f"ours {share}"](), works[f"usual {share}"](), atol=0.1), "not the same numbers"
    seconds = medians(interleaved(works, job.rounds, device))
    rows = [
        {"protocol": name, "seconds": seconds[name], "windows": len(selection.windows), **_counts(selection)}
        for name, selection in selections.items()
    ]
    sliding = [
        {
            "stride": share, "windows": len(selection.windows), **_counts(selection),
            "seconds": seconds[f"ours {share}"], "usual_seconds": seconds[f"usual {share}"],
            "speed_up": seconds[f"usual {share}"] / seconds[f"ours {share}"],
        }
        for share, selection in slid.items()
    ]  # fmt: skip
    settings = {"shape": asdict(shape), "scheme": job.scheme, "precision": resolve(job.precision, device)}
    return {"settings": settings, "rounds": job.rounds, "rows": rows, "sliding": sliding}


def _select(name: str, tokens: np.ndarray, offsets: np.ndarray, length: int) -> w.Selection:
    """What the protocol feeds and scores; the longest length is that of the shape, so the documents are the same."""
    options = SimpleNamespace(
        protocol=name, documents=None, targets=min(64, length), blocks=16, stride=None, k=min(64, length)
    )
    windows = protocols.create(options).windows(offsets, [length])[length]
    return w.Selection(tokens, offsets, windows)


def _counts(selection: w.Selection) -> Row:
    return {"fed": int(selection.windows.feed_lengths.sum()), "scored": selection.windows.targets}


def _ours(model: Transformer, selection: w.Selection, job: Protocols) -> Work:
    token_bytes, options = np.ones(job.shape.vocabulary, np.int64), SimpleNamespace(batch_tokens=None)
    return lambda: torch.from_numpy(score(model, selection, token_bytes, options, job.precision).nll)


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


def show(result: Row) -> list[str]:
    lines = [f"protocols, {Shape(**result['settings']['shape'])}, {result['settings']['precision']}"]
    for row in result["rows"]:
        per_second = row["scored"] / row["seconds"]
        lines.append(
            f"  {row['protocol']:<16} {row['fed']:>9,} fed {row['scored']:>9,} scored {row['seconds']:7.2f} s "
            f"{per_second:10,.0f} scored/s"
        )
    for row in result["sliding"]:
        lines.append(
            f"  sliding, stride {row['stride']:g} of the length: {row['seconds']:.2f} s, usual way "
            f"{row['usual_seconds']:.2f} s: {row['speed_up']:.2f} times as fast"
        )
    return lines
