"""Part `generation`: greedy decoding with the cache, tokens/s per scheme after prompts of several lengths.

The time of the prompt (prefill) is reported separately; the rate is that of the new tokens.
"""

import time
from dataclasses import asdict, dataclass
from typing import Any

import torch

from longrun.bench.timing import Shape, Work, interleaved, synchronise
from model import build
from model.errors import ModelError
from model.generate import stream
from model.precision import autocast, resolve
from model.transformer import Transformer

Row = dict[str, Any]


@dataclass(frozen=True)
class Generation:
    """shape: `batch` sequences are generated together; `length` is the training length."""

    shape: Shape
    schemes: tuple[str, ...]
    prompts: tuple[int, ...] = (128, 1024)
    new_tokens: int = 32
    precision: str = "auto"
    rounds: int = 2


def run(job: Generation, device: torch.device) -> Row:
    shape, rows = job.shape, []
    models = {
        name: build(shape.vocabulary, shape.length, shape.model, name).to(device).eval()
        for name in dict.fromkeys(["nope", *job.schemes])
    }
    for prompt in job.prompts:
        works, clocks = {}, {}
        for name, model in models.items():
            try:
                model.check_length(prompt + job.new_tokens)
            except ModelError as error:
                rows.append({"scheme": name, "prompt": prompt, "refused": str(error).splitlines()[0]})
                continue
            clocks[name] = []
            works[name] = _generation(model, prompt, job, clocks[name])
        interleaved(works, job.rounds, device)
        best = {
            name: (min(first for first, _ in rounds), min(rest for _, rest in rounds))
            for name, rounds in clocks.items()
        }
        new = shape.batch * (job.new_tokens - 1)
        for name, (first, rest) in best.items():
            rows.append(
                {
                    "scheme": name, "prompt": prompt, "tokens_per_s": new / rest, "of_nope": best["nope"][1] / rest,
                    "prompt_seconds": first, "cached": not models[name].length_dependent,
                }
            )  # fmt: skip
    settings = {"shape": asdict(shape), "precision": resolve(job.precision, device), "new_tokens": job.new_tokens}
    return {"settings": settings, "rounds": job.rounds, "rows": rows}


def _generation(model: Transformer, prompt: int, job: Generation, clock: list[tuple[float, float]]) -> Work:
    """Appends to `clock` the seconds up to the first new token, and those of the rest."""
    device = model.embedding.weight.device
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(model.vocab_size, (job.shape.batch, prompt), generator=draw).to(device)

    def work() -> None:
        start = time.perf_counter()
        with autocast(job.precision, device):
            generated = stream(model, tokens, job.new_tokens, temperature=0)
            next(generated)
            synchronise(device)
            first = time.perf_counter()
            assert sum(1 for _ in generated) == job.new_tokens - 1
        synchronise(device)
        clock.append((first - start, time.perf_counter() - first))

    return work


def format_result(result: Row) -> list[str]:
    shape = Shape(**result["settings"]["shape"])
    lines = [f"generation, {shape.batch} sequences at a time, {result['settings']['precision']}"]
    for row in result["rows"]:
        start = f"  {row['scheme']:<24} prompt {row['prompt']:>6,}"
        if "refused" in row:
            lines.append(f"{start}  n/a: {row['refused']}")
        else:
            lines.append(
                f"{start} {row['tokens_per_s']:9,.0f} tokens/s {row['of_nope']:5.2f} of NoPE, prompt "
                f"{row['prompt_seconds'] * 1000:,.0f} ms{'' if row['cached'] else '  (no cache can be right)'}"
            )
    return lines
