"""Part `data`: training a tokenizer, encoding, and the share of a training step spent waiting for its batch.

The text is source code of the Python standard library, as in the embedded corpus. The step has loss and gradients but
no optimizer; with an optimizer the share is smaller.
"""

import sysconfig
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.loader import Batches
from data.prefetch import Prefetch
from data.tokenizers.bpe import train_bpe
from longrun.bench.timing import Shape, interleaved, medians
from longrun.bench.training import Training, models, step

Row = dict[str, Any]


@dataclass(frozen=True)
class Data:
    shape: Shape
    megabytes: float = 4.0
    vocabulary: int = 2048
    precision: str = "auto"
    rounds: int = 5


def run(job: Data, device: torch.device) -> Row:
    texts = _texts(job.megabytes)
    size = sum(len(text.encode()) for text in texts) / 1e6
    start = time.perf_counter()
    tokenizer = train_bpe(texts, job.vocabulary)
    trained = time.perf_counter()
    encoded = tokenizer.encode_batch(texts)
    done = time.perf_counter()
    stream = np.concatenate(encoded)
    return {
        "settings": {"shape": asdict(job.shape), "vocabulary": job.vocabulary},
        "rounds": job.rounds, "megabytes": size, "tokens": len(stream),
        "bpe_training_seconds": trained - start, "encoding_mb_per_s": size / (done - trained),
        "encoding_tokens_per_s": len(stream) / (done - trained), **loading(job, stream, device),
    }  # fmt: skip


def loading(job: Data, stream: np.ndarray, device: torch.device) -> Row:
    """Seconds of a batch made on demand, of one made in the background while the step runs, and of the step."""
    shape = job.shape
    batches = Batches(np.resize(stream, max(len(stream), 4 * shape.length)), shape.length, shape.batch, seed=0)
    training = Training(shape, ("rope",), job.precision)
    work = step(models(training, device)[0]["rope"], training, device)
    numbers = {"demand": 0, "background": 0}
    waits: list[float] = []
    background = Prefetch(batches, device)

    def on_demand() -> None:
        batches.batch(numbers["demand"])
        numbers["demand"] += 1

    def a_step_and_its_batch() -> None:
        start = time.perf_counter()
        background.batch(numbers["background"])
        waits.append(time.perf_counter() - start)
        numbers["background"] += 1
        work()

    seconds = medians(interleaved({"batch": on_demand, "step": a_step_and_its_batch}, job.rounds, device))
    waited = sorted(waits[1:])[len(waits[1:]) // 2]
    return {
        "batch_seconds": seconds["batch"], "wait_seconds": waited, "step_seconds": seconds["step"],
        "share_on_demand": seconds["batch"] / seconds["step"], "share": waited / seconds["step"],
    }  # fmt: skip


def _texts(megabytes: float) -> list[str]:
    texts, size = [], 0
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        texts.append(path.read_text(encoding="utf-8", errors="replace"))
        size += len(texts[-1])
        if size >= megabytes * 1e6:
            break
    return texts


def format_result(result: Row) -> list[str]:
    return [
        f"data: {result['megabytes']:.1f} MB of text",
        f"  BPE of {result['settings']['vocabulary']} trained in {result['bpe_training_seconds']:.1f} s, "
        f"encodes {result['encoding_mb_per_s']:.1f} MB/s",
        f"  a batch takes {result['batch_seconds'] * 1e6:,.0f} us, {result['share_on_demand']:.3%} of a step; "
        f"made in the background it is waited for {result['wait_seconds'] * 1e6:,.0f} us, {result['share']:.3%}",
    ]
