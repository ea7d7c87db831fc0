"""A trained model as a folder that transformers loads, compared with the original."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from data.tokenizers.load import load_tokenizer
from longrun.config.schema import key
from longrun.evaluation.lm_eval_task import write_task

TOLERANCE = 1e-3  # relative to the largest logit; a larger difference is a different model, not different rounding
NEW_TOKENS = 16


@dataclass
class ExportConfig:
    run: str = key("the run folder, or a folder of a Hugging Face checkpoint", example="runs/rope-tiny-...")
    to: str = key("the folder to write; it must be empty or absent", example="exported")
    extension: str | None = key("a context extension to include in the exported model", example="yarn_code")
    length: int | None = key("target length of the extension; null = 8 times the training length", minimum=1)
    lm_eval: int | None = key("also write this number of test documents as a task for lm_eval", minimum=1, example=64)


DEFAULTS = {"extension": None, "length": None, "lm_eval": None}


def export(config: ExportConfig) -> Iterator[str]:
    """Write the folder and compare it; yields a message per step.

    Raises AssertionError if transformers computes different logits from the folder, which is then removed.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when transformers is imported: no file may come from the hub
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
    format_name = "with its own code: trust_remote_code=True" if own_code else f"as a {kind}"
    yield f"written to {folder}, {format_name}"
    if config.lm_eval is not None:
        name = write_task(source, folder, tokenizer, config.lm_eval)
        yield f"a task for lm_eval: --include_path {folder / 'lm_eval'} --tasks {name}"
    if find_spec("transformers") is None:
        yield "not compared: transformers is not installed (pip install 'longrun[hf]')"
        return
    difference, size, same = compare(model, folder, tokenizer.separator, own_code)
    text = "the same greedy text" if same else "different greedy text: the most likely tokens are that close"
    yield f"compared with transformers: logits differ by at most {difference:.1e} of {size:.1f}; {text}"
    if difference > TOLERANCE * size:
        shutil.rmtree(folder)
        raise AssertionError(f"{folder} computed something else and was removed")


def compare(model: Any, folder: Path, separator: int, own_code: bool) -> tuple[float, float, bool]:
    """Largest difference of logits, largest logit, and equality of the greedy texts."""
    import torch
    from transformers import AutoModelForCausalLM, logging

    from model.generate import generate

    logging.disable_progress_bar()
    auto: Any = AutoModelForCausalLM
    exported = auto.from_pretrained(folder, trust_remote_code=own_code, dtype=torch.float32).eval()
    longest = min(2 * model.train_length, 1024, model.max_positions or 1024)
    tokens = torch.randint(model.vocab_size, (2, longest), generator=torch.Generator().manual_seed(0))
    tokens[:, 0] = separator
    with torch.no_grad():
        ours, theirs = model(tokens), exported(tokens).logits.float()
    prompt = tokens[:1, : max(1, longest // 2 - NEW_TOKENS)]
    count = min(NEW_TOKENS, longest - prompt.shape[1])
    our_text = generate(model, prompt, count, temperature=0)
    options = {"do_sample": False, "max_new_tokens": count, "eos_token_id": None, "pad_token_id": separator}
    their_text = exported.generate(prompt, attention_mask=torch.ones_like(prompt), **options)
    return (ours - theirs).abs().max().item(), ours.abs().max().item(), torch.equal(our_text, their_text)
