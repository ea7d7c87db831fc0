"""Measure a trained model at lengths it was not trained at.

python eval.py run=runs/NAME                             the same targets after 1/2 ... 16 times the training length
python eval.py run=runs/NAME protocol=sliding stride=32 extension=ntk
"""

if __name__ == "__main__":  # ahead of the imports: refusals and --help do not wait for torch
    from longrun.config.cli import run

    run("eval", "eval:main")

from pathlib import Path
from typing import Any, cast

import torch

from data.dataset import Dataset, prepare
from data.tokenizers.load import load_tokenizer
from longrun.config.schema import EvalRunConfig
from longrun.evaluation.evaluate import evaluate_with_control, require_tokens
from longrun.training.malloc import keep_freed_memory
from model import distributed, load
from model.hf import load_hf
from model.transformer import Transformer


def main(config: EvalRunConfig) -> None:
    if config.threads:
        torch.set_num_threads(config.threads)
    keep_freed_memory()
    ranks = distributed.setup(config.device)
    say = print if ranks.is_main else (lambda line: None)
    model, data = a_run(config) if config.run else a_checkpoint(config)
    model = model.to(ranks.device)
    out = Path(config.out) if config.out else Path(str(config.run or config.hf)) / "eval"
    evaluate_with_control(out, model, data, config, config.extensions or [], config.precision, say)
    say(f"written to {out}")
    distributed.teardown()


def a_run(config: EvalRunConfig) -> tuple[Transformer, Dataset]:
    """The model of a run folder, and its own data or what was asked for."""
    folder = Path(str(config.run))
    tokenizer = load_tokenizer(folder)
    data = prepare(_data_options(folder, config.data), tokenizer=tokenizer)
    trained_on = {} if config.data else {"data_fingerprint": data.fingerprint}  # unless other data were asked for
    return load(folder, tokenizer=tokenizer.digest, **trained_on), data


def a_checkpoint(config: EvalRunConfig) -> tuple[Transformer, Dataset]:
    """The model of a Hugging Face folder, and the data: all of it is for testing."""
    folder = Path(str(config.hf))
    tokenizer = load_tokenizer(folder)
    whole = {"valid_fraction": 0.0, "test_fraction": 1.0}
    fractions = whole if whole.keys() <= config.data.keys() else {}
    data = prepare(config.data | fractions, tokenizer=tokenizer)
    model = load_hf(folder, config.train_length)
    require_tokens(model, tokenizer, folder)
    return model, data


def _data_options(run: Path, changes: dict[str, Any]) -> dict[str, Any]:
    """The run's own data, or other data: of other text all is for testing, since nothing of it was trained on."""
    from omegaconf import OmegaConf

    trained = cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.load(run / "config.yaml")))["data"]
    options = (trained if changes.get("source", trained["source"]) == trained["source"] else {}) | changes
    foreign = any(options.get(key) != trained.get(key) for key in ("source", "path", "subset", "split"))
    whole = {"valid_fraction": 0.0, "test_fraction": 1.0}
    return options | (whole if foreign and whole.keys() <= options.keys() else {})
