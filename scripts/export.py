"""python -m scripts.export run=<run folder> to=<folder>: a trained model as a folder that transformers loads.

Where transformers has a class that computes the same (Llama, Qwen3, SmolLM3, GPT-2, ...), the folder is one of that
class; elsewhere it brings its code, and is loaded with trust_remote_code=True. The tokenizer comes with it. If
transformers is installed, both models are run and compared.
"""

import os
import shutil
import sys
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from data.tokenizers.load import load_tokenizer
from longrun.config.cli import guarded
from longrun.config.run_arguments import read
from longrun.config.schema import key
from longrun.evaluation.lm_eval_task import write_task

TOLERANCE = 1e-3  # of the largest logit: more is another model, not other rounding
NEW_TOKENS = 16


@dataclass
class ExportConfig:
    run: str = key("the run folder, or a folder of a Hugging Face checkpoint", example="runs/rope-tiny-...")
    to: str = key("the folder to write; there must be nothing in it", example="exported")
    extension: str | None = key("a context extension to be part of the exported model", example="yarn_code")
    length: int | None = key("tokens that the extension shall reach; null = 8 times the training length", minimum=1)
    lm_eval: int | None = key("also write so many test documents as a task for lm_eval", minimum=1, example=64)


DEFAULTS = {"extension": None, "length": None, "lm_eval": None}


def main(words: list[str]) -> int:
    if {"--help", "-h"} & set(words):
        print(usage())
        return 0
    config = read(words, ExportConfig, DEFAULTS, "run=runs/NAME to=FOLDER")
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when transformers is imported: nothing here is to be looked up
    from model import init_from
    from model.extension.base import extended
    from model.hf import save_hf

    source, folder = Path(config.run), Path(config.to)
    tokenizer, model = load_tokenizer(source), init_from.load(source)
    if config.extension is not None:
        model = extended(model, config.extension, config.length or 8 * model.train_length)
    kind = save_hf(model, folder, tokenizer.separator)
    tokenizer.export(folder)
    own_code = kind == "longrun"
    how = "with its own code: trust_remote_code=True" if own_code else f"as a {kind}"
    print(f"written to {folder}, {how}")
    if config.lm_eval is not None:
        name = write_task(source, folder, tokenizer, config.lm_eval)
        print(f"a task for lm_eval: --include_path {folder / 'lm_eval'} --tasks {name}")
    if find_spec("transformers") is None:
        print("not compared: transformers is not installed (pip install 'longrun[hf]')")
        return 0
    difference, size, same = compared(model, folder, tokenizer.separator, own_code)
    text = "the same greedy text" if same else "another greedy text: the likeliest tokens are that close"
    print(f"compared with transformers: logits differ by at most {difference:.1e} of {size:.1f}; {text}")
    if difference > TOLERANCE * size:
        shutil.rmtree(folder)
        raise AssertionError(f"{folder} computed something else and was removed")
    return 0


def compared(model: Any, folder: Path, separator: int, own_code: bool) -> tuple[float, float, bool]:
    """Largest difference of logits, largest logit, and whether both write the same text."""
    import torch
    from transformers import AutoModelForCausalLM, logging

    from model.generate import generate

    logging.disable_progress_bar()
    theirs = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=own_code, dtype=torch.float32).eval()
    longest = min(2 * model.train_length, 1024, model.max_positions or 1024)
    tokens = torch.randint(model.vocab_size, (2, longest), generator=torch.Generator().manual_seed(0))
    tokens[:, 0] = separator
    with torch.no_grad():
        ours, other = model(tokens), theirs(tokens).logits.float()
    prompt = tokens[:1, : max(1, longest // 2 - NEW_TOKENS)]
    count = min(NEW_TOKENS, longest - prompt.shape[1])
    written = generate(model, prompt, count, temperature=0)
    options = {"do_sample": False, "max_new_tokens": count, "eos_token_id": None, "pad_token_id": separator}
    again = theirs.generate(prompt, attention_mask=torch.ones_like(prompt), **options)
    return (ours - other).abs().max().item(), ours.abs().max().item(), torch.equal(written, again)


def usage() -> str:
    lines = [f"  {f.name}={DEFAULTS.get(f.name, '...')}".ljust(22) + f.metadata["doc"] for f in fields(ExportConfig)]
    return "\n".join(["python -m scripts.export run=FOLDER to=FOLDER [key=value ...]", "", *lines])


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
