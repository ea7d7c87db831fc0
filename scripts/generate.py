"""python -m scripts.generate run=<run folder> prompt="..." [key=value ...]: text from a trained model.

Stops at `length` new tokens or where the model ends the document.
"""

import codecs
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from data.tokenizers.base import Tokenizer
from data.tokenizers.load import load_tokenizer
from longrun.config.cli import guarded
from longrun.config.run_arguments import read
from longrun.config.schema import key
from longrun.config.validate import show


@dataclass
class GenerateConfig:
    run: str = key("the run folder", example="runs/rope-tiny-stdlib-L128-s0-1a2b3c4d")
    prompt: str = key("the text to go on from")
    length: int = key("new tokens at most", minimum=1)
    temperature: float = key("0 = always the likeliest token; 1 = as the model has it", minimum=0.0)
    top_k: int | None = key("choose among so many tokens", minimum=1, example=50)
    top_p: float | None = key("choose among the fewest tokens of this total probability", above=0.0, maximum=1.0)
    samples: int = key("how many texts", minimum=1)
    seed: int = key("of the random choices")
    extension: str | None = key("a context extension for the whole length", example="ntk")


DEFAULTS = {
    "prompt": "", "length": 200, "temperature": 0.8, "top_k": None, "top_p": 0.95, "samples": 1, "seed": 0,
    "extension": None,
}  # fmt: skip


def main(words: list[str]) -> int:
    if {"--help", "-h"} & set(words):
        print(usage())
        return 0
    config = read(words, GenerateConfig, DEFAULTS, "run=FOLDER prompt='def main():'", texts=("prompt",))
    from model import load
    from model.extension.base import extended

    tokenizer = load_tokenizer(Path(config.run))
    model = load(config.run)
    prompt = [tokenizer.separator, *tokenizer.encode(config.prompt).tolist()]  # every document begins with it
    if config.extension is not None:
        model = extended(model, config.extension, len(prompt) + config.length)
    for number in range(config.samples):
        if config.samples > 1:
            print(f"--- {number + 1} of {config.samples}")
        for piece in texts(model, tokenizer, prompt, config, number):
            sys.stdout.write(piece)
            sys.stdout.flush()
        print()
    return 0


def texts(model: Any, tokenizer: Tokenizer, prompt: list[int], config: GenerateConfig, number: int) -> Iterator[str]:
    """The prompt and then each token's text; a character of several tokens comes when it is whole."""
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


def usage() -> str:
    shown = {f.name: show(DEFAULTS[f.name]) if f.name in DEFAULTS else "..." for f in fields(GenerateConfig)}
    lines = [f"  {f.name}={shown[f.name]}".ljust(22) + f.metadata["doc"] for f in fields(GenerateConfig)]
    return "\n".join(["python -m scripts.generate run=FOLDER prompt='...' [key=value ...]", "", *lines])


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
