"""Text from a trained model."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.tokenizers.base import Tokenizer
from data.tokenizers.load import load_tokenizer
from longrun.config.schema import key


@dataclass
class GenerateConfig:
    run: str = key("the run folder", example="runs/rope-tiny-stdlib-L128-s0-1a2b3c4d")
    prompt: str = key("the text to continue")
    length: int = key("new tokens at most", minimum=1)
    temperature: float = key("0 = always the most likely token; 1 = the model's distribution", minimum=0.0)
    top_k: int | None = key("sample from this number of most likely tokens", minimum=1, example=50)
    top_p: float | None = key("sample from the fewest tokens of this total probability", above=0.0, maximum=1.0)
    samples: int = key("number of texts", minimum=1)
    seed: int = key("of the random choices")
    extension: str | None = key("a context extension for the whole length", example="ntk")


DEFAULTS = {
    "prompt": "", "length": 200, "temperature": 0.8, "top_k": None, "top_p": 0.95, "samples": 1, "seed": 0,
    "extension": None,
}  # fmt: skip


def generate_samples(config: GenerateConfig) -> Iterator[Iterator[str]]:
    """One iterator of text pieces per sample. Raises ModelError if the extension does not apply to the model."""
    from model import load
    from model.extension.base import extended

    tokenizer = load_tokenizer(Path(config.run))
    model = load(config.run)
    prompt = [tokenizer.separator, *tokenizer.encode(config.prompt).tolist()]  # documents begin with the separator
    if config.extension is not None:
        model = extended(model, config.extension, len(prompt) + config.length)
    for number in range(config.samples):
        yield _pieces(model, tokenizer, prompt, config, number)


def _pieces(model: Any, tokenizer: Tokenizer, prompt: list[int], config: GenerateConfig, number: int) -> Iterator[str]:
    """The prompt, then the text of each token; a character of several tokens is yielded when it is complete."""
    from model.generate import stream
    from model.init import generator_for

    yield config.prompt
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    generator = generator_for(config.seed, f"generate/{number}")
    sampling = {"temperature": config.temperature, "top_k": config.top_k, "top_p": config.top_p}
    for (token,) in stream(model, [prompt], config.length, generator=generator, **sampling):
        if token == tokenizer.separator:
            break
        yield decoder.decode(tokenizer.pieces[token])
    yield decoder.decode(b"", final=True)
