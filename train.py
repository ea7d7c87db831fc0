"""Train a model and measure it beyond its training length.

    python train.py pe=alibi                                  one run, into runs/<name>/
    python train.py -m pe=nope,rope,alibi seed=0,1,2          a sweep; launched again, it skips what is done
    torchrun --nproc-per-node=2 train.py pe=rope              several processes, one run folder

The same command continues an interrupted run and leaves a finished one alone. Batch n is a function of (seed, n), every
other random number comes from generators that a checkpoint holds: a run that was interrupted ends with the same bits.
"""

if __name__ == "__main__":  # ahead of the imports: refusals and --help do not wait for torch
    from configs.cli import run

    run("train", "train:main")

import math
import signal
import statistics
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from configs.run_folder import RunFolder
from configs.schema import TrainConfig
from configs.tracking import Tracker
from data import windows
from data.corpus import Corpus, prepare
from data.loader import Batches
from eval import evaluate_with_control, score, summary
from model import build, checkpoint, parallel
from model.errors import ModelError
from model.optim import build_optimizer, clip_gradients, schedule
from model.parallel import Ranks
from model.precision import autocast
from model.transformer import Transformer, generator_for

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
BAD_STEPS = 3  # non-finite steps in a row that end a run


@dataclass
class Progress:
    """What a run knows about itself besides weights and optimizer; saved with every checkpoint."""

    step: int = 0  # optimizer steps done
    seconds: float = 0.0  # spent training, over all launches
    skipped: int = 0  # steps without an update, because their gradient was not finite
    bad_in_a_row: int = 0


@dataclass
class Trainer:
    """Everything the loop works on."""

    config: TrainConfig
    ranks: Ranks
    corpus: Corpus
    model: Transformer
    wrapped: nn.Module  # the model inside torch.compile and DDP
    optimizer: torch.optim.Optimizer
    batches: Batches
    progress: Progress = field(default_factory=Progress)

    @property
    def tokens_per_step(self) -> int:
        return self.config.train.batch * self.config.train.length


def main(config: TrainConfig) -> int:
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    ranks = parallel.setup(config.train.device)
    folder = RunFolder.of(config)
    if not ranks.first:
        return run_training(config, folder, ranks)
    with folder.lock():
        return run_training(config, folder, ranks)


def run_training(config: TrainConfig, folder: RunFolder, ranks: Ranks) -> int:
    """From a configuration to a finished run folder. Returns the exit code: 0, or 128 + the signal that stopped it."""
    trainer = set_up(config, ranks)
    resumed = resume(trainer, folder.path)
    if ranks.first:
        folder.create(config)
        trainer.corpus.tokenizer.save(folder.path)
    with Tracker(config, folder, active=ranks.first, facts=facts(trainer)) as tracker:
        tracker.resume(trainer.progress.step)
        tracker.say(f"{'continuing' if resumed else 'training'} {folder.path} from step {trainer.progress.step}")
        stopped = loop(trainer, folder.path, tracker)
        if stopped:
            tracker.say(f"stopped by {signal.Signals(stopped).name} after step {trainer.progress.step}; "
                        "the same command continues")  # fmt: skip
            return 128 + stopped
        done = {**facts(trainer), **outcome(trainer, tracker)}
        if config.eval_at_end:
            records = evaluate_with_control(
                folder.path / "eval", trainer.model, trainer.corpus, config.eval, ["none"],
                config.train.precision, tracker.say,
            )  # fmt: skip
            tracker.curves(records)
        if ranks.first:
            folder.finish(done)
        tracker.say(f"finished {folder.path}")
    parallel.teardown()
    return 0


def set_up(config: TrainConfig, ranks: Ranks) -> Trainer:
    loop, optim = config.train, config.optim
    corpus = prepare(asdict(config.data), progress=ranks.first)
    batches = Batches(corpus.tokens("train"), loop.length, loop.batch, config.seed)
    model = build(
        corpus.tokenizer.vocab_size, loop.length, asdict(config.model), config.pe, config.positions, config.seed
    ).to(ranks.device)
    torch.manual_seed(config.seed * 1000003 + ranks.rank)  # dropout; all else has generators of its own
    wrapped = parallel.wrap(torch.compile(model) if loop.compile else model, ranks)
    optimizer = build_optimizer(model, optim.name, optim.lr, (optim.betas[0], optim.betas[1]), optim.weight_decay)
    for group in optimizer.param_groups:
        group["peak_lr"] = group["lr"]
    return Trainer(config, ranks, corpus, model, wrapped, optimizer, batches)


def loop(trainer: Trainer, folder: Path, tracker: Tracker) -> int:
    """Train to the last step, or until a signal: then the state is saved and the signal's number returned."""
    config, progress = trainer.config, trainer.progress
    pending = Signals()
    started, before = time.perf_counter(), progress.seconds
    mark, losses = (started, progress.step), []
    while progress.step < config.train.steps:
        lr, loss, norm = train_step(trainer)
        losses.append(loss)
        progress.seconds = before + time.perf_counter() - started
        last = progress.step == config.train.steps
        if progress.step % config.train.log_every == 0 or last:
            now = time.perf_counter()
            rate = (progress.step - mark[1]) * trainer.tokens_per_step / (now - mark[0])
            tracker.train(metrics(trainer, losses, lr, norm, rate))
            mark, losses = (now, progress.step), []
        if progress.step % config.train.valid_every == 0 or last:
            tracker.valid(validate(trainer))
            mark = (time.perf_counter(), progress.step)
        stop = pending.received if trainer.ranks.world == 1 else agreed(pending.received)
        if progress.step % config.checkpoint.every == 0 or last or stop:
            tracker.flush()
            save(trainer, folder)
        if stop and not last:
            return stop
    return 0


def train_step(trainer: Trainer) -> tuple[float, float, float]:
    """One update: learning rate, mean loss over the global batch in nats, gradient norm before clipping.

    Loss and norm are checked before the weights change; one that is not finite skips the update on every rank.
    """
    config, progress, ranks = trainer.config, trainer.progress, trainer.ranks
    optim = config.optim
    multiplier = schedule(
        progress.step, config.train.steps, config.warmup_steps, optim.schedule, optim.final_lr, optim.decay_fraction
    )
    for group in trainer.optimizer.param_groups:
        group["lr"] = group["peak_lr"] * multiplier

    inputs, targets = (
        x.to(ranks.device, non_blocking=True) for x in trainer.batches.batch(progress.step, ranks.rank, ranks.world)
    )
    size = config.train.micro_batch or len(inputs)
    parts = list(zip(inputs.split(size), targets.split(size), strict=True))
    total = torch.zeros((), device=ranks.device)
    generator = generator_for(config.seed, f"positions/{progress.step}/{ranks.rank}", ranks.device)
    for number, (x, y) in enumerate(parts, start=1):
        with parallel.accumulate(trainer.wrapped, last=number == len(parts)):
            with autocast(config.train.precision, ranks.device):
                loss = trainer.wrapped(x, y, generator=generator) * (len(x) / len(inputs))
            loss.backward()
        total += loss.detach()
    norm = clip_gradients(trainer.model, optim.grad_clip)
    (mean,) = parallel.mean_scalars([total.item()])
    finite = math.isfinite(mean) and math.isfinite(norm)
    if finite:
        trainer.optimizer.step()
    trainer.optimizer.zero_grad(set_to_none=True)
    progress.step += 1
    note_bad_step(progress, finite, mean, norm)
    return optim.lr * multiplier, mean, norm


def note_bad_step(progress: Progress, finite: bool, loss: float, norm: float) -> None:
    progress.bad_in_a_row = 0 if finite else progress.bad_in_a_row + 1
    progress.skipped += not finite
    if progress.bad_in_a_row == BAD_STEPS:
        raise ModelError(
            f"loss={loss}, gradient norm={norm}: not finite {BAD_STEPS} steps in a row, at step {progress.step}.\n"
            "The weights are those of the last good step. Try a smaller optim.lr, a longer optim.warmup_fraction, "
            "or train.precision=fp32."
        )


def metrics(trainer: Trainer, losses: list[float], lr: float, norm: float, rate: float) -> dict[str, float]:
    """A row of metrics.jsonl. The loss is the mean since the last row."""
    step = trainer.progress.step
    loss = statistics.fmean(losses)
    return {
        "step": step,
        "tokens": step * trainer.tokens_per_step,
        "loss": loss,
        "bits_per_byte": loss / math.log(2) * tokens_per_byte(trainer.corpus),
        "lr": lr,
        "grad_norm": norm,
        "tokens_per_s": rate,
        "skipped": trainer.progress.skipped,
    }


def tokens_per_byte(corpus: Corpus) -> float:
    counts = corpus.provenance["splits"]["train"]
    return counts["tokens"] / counts["bytes"]


def validate(trainer: Trainer) -> dict[str, float]:
    """Loss on evenly spread windows of the validation split, at the training length."""
    corpus, loop = trainer.corpus, trainer.config.train
    tokens, offsets = corpus.tokens("valid"), corpus.documents("valid")
    every = windows.nonoverlap(offsets, loop.length)
    chosen = torch.linspace(0, len(every) - 1, min(len(every), loop.valid_windows)).long().numpy()
    scored = score(
        trainer.model, every[chosen], tokens, offsets, corpus.tokenizer.token_bytes, trainer.config.eval, loop.precision
    )
    figures = summary(scored)
    step = trainer.progress.step
    return {
        "step": step,
        "tokens": step * trainer.tokens_per_step,
        "valid_loss": figures["nll"],
        "valid_bits_per_byte": figures["bits_per_byte"],
    }


def save(trainer: Trainer, folder: Path) -> None:
    state = {"model": trainer.model.config, "progress": asdict(trainer.progress)}
    checkpoint.save(
        folder / "checkpoints",
        trainer.progress.step,
        trainer.model,
        trainer.optimizer,
        state,
        trainer.config.checkpoint.keep,
        identity(trainer),
    )


def resume(trainer: Trainer, folder: Path) -> bool:
    """Continue from the newest whole checkpoint, if there is one."""
    found = checkpoint.newest(folder / "checkpoints")
    parallel.require_same("the step to continue from", found.step if found else None)
    if found is None:
        return False
    found.require(**identity(trainer))
    checkpoint.load_model(found, trainer.model)
    checkpoint.load_optimizer(found, trainer.model, trainer.optimizer)
    checkpoint.load_rng(found, trainer.ranks.rank)
    trainer.progress = Progress(**found.state["progress"])
    return True


def identity(trainer: Trainer) -> dict[str, Any]:
    """What a checkpoint must share with the run that continues it."""
    return {
        "tokenizer": trainer.corpus.tokenizer.digest,
        "data_fingerprint": trainer.corpus.fingerprint,
        "scheme": trainer.model.config["pe"]["name"],
        "vocab_size": trainer.model.vocab_size,
    }


def facts(trainer: Trainer) -> dict[str, Any]:
    """What tables and dashboards say of a run before it has trained."""
    config = trainer.config
    return {
        "scheme": config.pe["name"],
        "model": config.model.name,
        "data": config.data.name,
        "data_fingerprint": trainer.corpus.fingerprint,
        "train_length": config.train.length,
        "seed": config.seed,
        "steps": config.train.steps,
        "tokens": config.train.steps * trainer.tokens_per_step,
        "parameters": trainer.model.parameter_count(),
        "parameters_non_embedding": trainer.model.parameter_count(embedding=False),
    }


def outcome(trainer: Trainer, tracker: Tracker) -> dict[str, Any]:
    """What is known once it has trained. Throughput is the median over the rows of metrics.jsonl."""
    rows = tracker.rows()
    training = [row for row in rows if "loss" in row]
    valid = [row for row in rows if "valid_loss" in row]
    return {
        "loss": training[-1]["loss"],
        "valid_loss": valid[-1]["valid_loss"],
        "valid_bits_per_byte": valid[-1]["valid_bits_per_byte"],
        "tokens_per_s": statistics.median(row["tokens_per_s"] for row in training),
        "seconds": trainer.progress.seconds,
        "skipped": trainer.progress.skipped,
    }


class Signals:
    """The last stop signal received; the default action returns after the first, so a second one ends at once."""

    def __init__(self) -> None:
        self.received = 0
        for number in STOPPING:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: Any) -> None:
        self.received = number
        signal.signal(number, signal.SIG_DFL)


def agreed(received: int) -> int:
    """The signal that any rank received, so that all stop after the same step."""
    return int(max(parallel.gather_tensors({"signal": torch.tensor(received)}), key=lambda t: t["signal"])["signal"])
