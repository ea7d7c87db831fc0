"""Generation: one token after another, drawn from the model's predictions.

    tokens = generate(model, prompt, 200, temperature=0.8, top_p=0.95, generator=torch.Generator().manual_seed(0))

Shapes: B sequences, T tokens of the prompt, N new tokens, V vocabulary.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .errors import ModelError
from .transformer import Transformer


def generate(model: Transformer, prompt: Tensor | Sequence[Sequence[int]], new_tokens: int, **sampling) -> Tensor:
    """The prompt followed by `new_tokens` tokens: int64 (B, T + N). sampling: options of `stream`."""
    prompt = check_prompt(prompt, model)
    new = list(stream(model, prompt, new_tokens, **sampling))
    return torch.cat([prompt, *(column[:, None] for column in new)], dim=1)


@torch.no_grad()
def stream(
    model: Transformer,
    prompt: Tensor | Sequence[Sequence[int]],
    new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """Yield the next token of each sequence, int64 (B,), `new_tokens` times.

    prompt: (B, T); prompt and new tokens may exceed the training length.
    temperature: divisor of the logits; 0 selects the likeliest token.  top_k, top_p: see `truncate`.
    generator: source of the random tokens and of a random position plan.
    Raises ModelError for a length that the encoding has no positions for, before anything is computed.
    """
    tokens = check_prompt(prompt, model)
    check_sampling(new_tokens, temperature, top_k, top_p)
    total = tokens.shape[1] + new_tokens - 1  # the last token is never an input
    model.check_length(total)
    cache = None if model.length_dependent else model.new_cache(capacity=total)
    inputs = tokens
    was_training = model.training
    model.eval()
    try:
        for _ in range(new_tokens):
            logits = model.last_logits(inputs, cache, generator)
            new = sample(logits, temperature, top_k, top_p, generator)
            yield new
            inputs = new[:, None] if cache is not None else torch.cat([inputs, new[:, None]], dim=1)
    finally:
        model.train(was_training)


def sample(
    logits: Tensor, temperature: float, top_k: int | None, top_p: float | None, generator: torch.Generator | None
) -> Tensor:
    """One token per row of logits (B, V): int64 (B,)."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = truncate(torch.softmax(logits.float() / temperature, dim=-1), top_k, top_p)
    if generator is not None:
        probabilities = probabilities.to(generator.device)
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0].to(logits.device)


def truncate(probabilities: Tensor, top_k: int | None, top_p: float | None) -> Tensor:
    """The largest of the probabilities (B, V), the others 0; not normalised.

    top_k: their number.  top_p: of these, the fewest whose sum reaches this share (nucleus sampling, 1904.09751).
    """
    if top_k is None and top_p is None:
        return probabilities
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    if top_k is not None:
        ordered[:, top_k:] = 0
    if top_p is not None and top_p < 1:
        before = ordered.cumsum(dim=-1) - ordered
        ordered = torch.where(before < top_p * ordered.sum(dim=-1, keepdim=True), ordered, 0)
    return torch.zeros_like(probabilities).scatter(-1, order, ordered)


def check_prompt(prompt: Tensor | Sequence[Sequence[int]], model: Transformer) -> Tensor:
    """The prompt as int64 (B, T) on the model's device. Raises ModelError unless it is a valid input."""
    if not isinstance(prompt, Tensor):
        lengths = sorted({len(row) for row in prompt})
        if len(lengths) > 1:
            raise ModelError(
                f"prompts of {' and '.join(map(str, lengths))} tokens: padding would shift positions.\n"
                "Pass prompts of one length at a time"
            )
        prompt = torch.tensor(list(map(list, prompt)))
    if prompt.dim() != 2 or prompt.numel() == 0 or prompt.is_floating_point():
        raise ModelError(
            f"a prompt of shape {tuple(prompt.shape)}: expected whole numbers (sequences, tokens), at least one.\n"
            "For an empty text, pass the tokenizer's separator"
        )
    low, high = int(prompt.min()), int(prompt.max())
    if low < 0 or high >= model.vocab_size:
        raise ModelError(
            f"token {low if low < 0 else high} in the prompt: the model has tokens 0 to {model.vocab_size - 1}.\n"
            "Encode the text with the tokenizer of its run folder"
        )
    return prompt.long().to(model.embedding.weight.device)


def check_sampling(new_tokens: int, temperature: float, top_k: int | None, top_p: float | None) -> None:
    for key, value, valid, expected in (
        ("new_tokens", new_tokens, new_tokens >= 1, "1 or more"),
        ("temperature", temperature, temperature >= 0, "0 (the likeliest token) or more"),
        ("top_k", top_k, top_k is None or top_k >= 1, "1 or more, or nothing"),
        ("top_p", top_p, top_p is None or 0 < top_p <= 1, "above 0 and at most 1, or nothing"),
    ):
        if not valid:
            raise ModelError(f"{key}={value}: expected {expected}.")
