"""Score the targets of a selection with a model. Under torchrun the ranks share the windows."""

import numpy as np
import torch

from data import windows as w
from longrun.evaluation.token_scores import TokenScores
from model import distributed
from model.generate import generate
from model.precision import autocast
from model.transformer import Transformer


def score(
    model: Transformer,
    selection: w.Selection,
    token_bytes: np.ndarray,
    batch_tokens: int | None = None,
    precision: str = "auto",
) -> TokenScores:
    """Compute -ln p of every target. Under torchrun every rank returns all of them.

    token_bytes: bytes of text per token id.  batch_tokens: tokens per forward pass; None: `default_batch_tokens`.
    """
    windows, tokens, offsets = selection.windows, selection.tokens, selection.offsets
    counts = windows.score_end - windows.score_start
    first = np.cumsum(counts) - counts  # index of each window's first target in the result
    device = model.embedding.weight.device
    result = torch.zeros(2, int(counts.sum()))  # -ln p, and 1 where the target is the likeliest token
    was_training = model.training
    model.eval()
    budget = batch_tokens or default_batch_tokens(device)
    for rows in w.batches(windows, budget, distributed.rank(), distributed.world_size()):
        inputs, targets = (torch.from_numpy(a).to(device) for a in w.gather(windows, tokens, rows))
        with autocast(precision, device):
            values = model.nll_and_correct(inputs, targets) if selection.answers else (model.nll(inputs, targets),)
        for kind, value in enumerate(values):
            result[kind, torch.from_numpy(_ranges(first[rows], counts[rows]))] = value.float().cpu()
    model.train(was_training)
    distributed.sum_tensor(result)

    owner = np.repeat(np.arange(len(windows)), counts)
    index = _ranges(windows.score_start, counts)
    token = np.asarray(tokens)[index].astype(np.int32)
    return TokenScores(
        windows.document[owner].astype(np.int32),
        (index - offsets[windows.document[owner]]).astype(np.int32),
        (index - 1 - windows.feed_start[owner]).astype(np.int32),
        token,
        token_bytes[token].astype(np.int16),
        result[0].numpy(),
        result[1].numpy() > 0 if selection.answers else None,
    )


def generate_answers(
    model: Transformer, selection: w.Selection, batch_tokens: int | None = None, precision: str = "auto"
) -> list[np.ndarray]:
    """Decode greedily in place of each window's targets: per window as many ids as it has targets, int64."""
    windows, device = selection.windows, model.embedding.weight.device
    answers: list[np.ndarray] = [np.zeros(0, np.int64)] * len(windows)
    prompt, answer = windows.score_start - windows.feed_start, windows.score_end - windows.score_start
    for size, count in sorted(set(zip(prompt.tolist(), answer.tolist(), strict=True))):
        same_size = np.flatnonzero((prompt == size) & (answer == count))
        batch = max(1, (batch_tokens or default_batch_tokens(device)) // (size + count))
        for rows in np.split(same_size, range(batch, len(same_size), batch)):
            indices = windows.feed_start[rows, None] + np.arange(size)
            prompts = torch.from_numpy(np.asarray(selection.tokens)[indices].astype(np.int64))
            with autocast(precision, device):
                texts = generate(model, prompts, count, temperature=0)
            for row, ids in zip(rows.tolist(), texts[:, size:].cpu().numpy(), strict=True):
                answers[row] = ids
    return answers


def default_batch_tokens(device: torch.device) -> int:
    """Tokens per forward pass. On a CPU the activations should stay near its caches: larger batches were slower."""
    return 4096 if device.type == "cpu" else 32768


def _ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """start, start + 1, ... for each (start, count), one after the other."""
    before = np.cumsum(counts) - counts
    return np.repeat(starts - before, counts) + np.arange(int(counts.sum()))
