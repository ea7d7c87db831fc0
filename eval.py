"""Measure a trained model at lengths it was not trained at.

python eval.py run=runs/NAME                             the same targets after 1/2 ... 16 times the training length
python eval.py run=runs/NAME protocol=sliding stride=32 extension=ntk
"""

if __name__ == "__main__":  # before the imports: refusals and --help do not wait for torch
    from longrun.config.cli import run

    run("eval", "eval:main")

from pathlib import Path

import torch

from longrun.config.schema import EvalRunConfig
from longrun.evaluation.evaluation import Evaluation
from longrun.evaluation.load import load_checkpoint, load_run
from longrun.training.malloc import keep_freed_memory
from model import distributed


def main(config: EvalRunConfig) -> None:
    if config.threads:
        torch.set_num_threads(config.threads)
    keep_freed_memory()
    ranks = distributed.setup(config.device)
    say = print if ranks.is_main else (lambda line: None)
    folder = Path(str(config.run or config.hf))
    if config.run:
        model, data = load_run(folder, config.data)
    else:
        model, data = load_checkpoint(folder, config.data, config.train_length)
    out = Path(config.out) if config.out else folder / "eval"
    evaluation = Evaluation.from_config(model.to(ranks.device), data, config, config.precision)
    evaluation.write(out, config.extensions or [], say, config.control)
    say(f"written to {out}")
    distributed.teardown()
