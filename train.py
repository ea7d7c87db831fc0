"""Train a model and measure it beyond its training length.

    python train.py pe=alibi                                  one run, into runs/<name>/
    python train.py -m pe=nope,rope,alibi seed=0,1,2          a sweep; launched again, it skips what is done
    torchrun --nproc-per-node=2 train.py pe=rope              several processes, one run folder

The same command continues an interrupted run and skips a finished one. Batch n is a function of (seed, n), and all
other random numbers come from generators that a checkpoint holds, so that an interrupted run ends with the same bits.
"""

if __name__ == "__main__":  # before the imports, so that refusals and --help do not wait for torch
    from longrun.config.cli import run

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

from data.dataset import Batches, Dataset, prepare
from data.prefetch import Prefetch
from data.tokenizers.base import Tokenizer
from data.tokenizers.load import load_tokenizer
from longrun.config.schema import TrainConfig
from longrun.evaluation.evaluation import Evaluation
from longrun.evaluation.load import require_embeddings
from longrun.evaluation.protocols import registry as protocols
from longrun.evaluation.scoring import score
from longrun.evaluation.token_scores import summary
from longrun.runs.run_folder import RunFolder
from longrun.tracking.tracker import Tracker
from longrun.training.compile_policy import should_compile
from longrun.training.malloc import keep_freed_memory
from longrun.training.optimizers import build_optimizer
from longrun.training.optimizers import options as optimizer_options
from longrun.training.parameters import clip_gradients
from longrun.training.schedule import schedule
from model import build, distributed, init_from
from model.checkpoint import files as checkpoint
from model.distributed import DistEnv
from model.errors import ModelError
from model.factory import gather_full_model
from model.init import generator_for
from model.precision import autocast, exact_device
from model.transformer import UNSCORED, Transformer

STOPPING = [signal.SIGTERM, signal.SIGINT, *filter(None, [getattr(signal, "SIGUSR1", None)])]  # Windows has no USR1
BAD_STEPS = 3  # non-finite steps in a row that end a run


@dataclass
class TrainState:
    """The state of a run besides weights, optimizer and random numbers; saved with every checkpoint."""

    step: int = 0  # optimizer steps done
    seconds: float = 0.0  # spent training, over all launches
    skipped: int = 0  # steps without an update, because their gradient was not finite
    bad_in_a_row: int = 0


@dataclass
class Trainer:
    """The objects that the loop works on."""

    config: TrainConfig
    ranks: DistEnv
    data: Dataset
    model: Transformer
    wrapped: nn.Module  # the model inside DDP; otherwise the model itself
    optimizer: torch.optim.Optimizer
    batches: Batches
    progress: TrainState = field(default_factory=TrainState)

    @property
    def tokens_per_step(self) -> int:
        return self.config.train.batch * self.config.train.length


def main(config: TrainConfig) -> int:
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    keep_freed_memory()
    ranks = distributed.setup(config.train.device, config.train.timeout)
    folder = RunFolder.of(config)
    if not ranks.is_main:
        return run_training(config, folder, ranks)
    with folder.lock():
        return run_training(config, folder, ranks)


def run_training(config: TrainConfig, folder: RunFolder, ranks: DistEnv) -> int:
    """Train or continue the run of a configuration. Returns the exit code: 0, or 128 + the signal that stopped it."""
    newest = checkpoint.newest(folder.path / "checkpoints")
    distributed.require_same("the step to continue from", newest.step if newest else None)
    trainer = set_up(config, ranks, newest)
    if newest:
        resume(trainer, newest)
    if ranks.is_main:
        folder.create(config)
        trainer.data.tokenizer.save(folder.path)
    with Tracker(config, folder, active=ranks.is_main, run_info=run_info(trainer)) as tracker:
        tracker.resume(trainer.progress.step)
        tracker.say(f"{'continuing' if newest else 'training'} {folder.path} from step {trainer.progress.step}")
        with Signals() as signals:
            stopped = loop(trainer, folder.path, tracker, signals)
        if stopped:
            name, step = signal.Signals(stopped).name, trainer.progress.step
            tracker.say(f"stopped by {name} after step {step}; the same command continues")
        else:
            finish(trainer, folder, tracker)
    distributed.teardown()
    return 128 + stopped if stopped else 0


def finish(trainer: Trainer, folder: RunFolder, tracker: Tracker) -> None:
    """Evaluate, and write `done` last: a run that is interrupted here is evaluated again when it is continued."""
    config = trainer.config
    done = {**run_info(trainer), **run_summary(trainer, tracker)}
    if config.eval_at_end:
        model = gather_full_model(trainer.model)
        evaluation = Evaluation.from_config(model, trainer.data, config.eval, config.train.precision)
        records = evaluation.write(
            folder.path / "eval",
            config.eval.extensions or ["none"],
            tracker.say,
            config.eval.control,
            replace_others=True,  # of an interrupted launch that is continued with other options
        )
        tracker.curves(records)
    if trainer.ranks.is_main:
        folder.finish(done)
    tracker.say(f"finished {folder.path}")


def set_up(config: TrainConfig, ranks: DistEnv, newest: checkpoint.Checkpoint | None) -> Trainer:
    """The state before the first step. Raises ModelError for a checkpoint of another run."""
    loop, optim = config.train, config.optim
    tokenizer = load_tokenizer(Path(config.init_from)) if config.init_from else None
    data = prepare(asdict(config.data), tokenizer=tokenizer, progress=ranks.is_main)
    batches = Prefetch(data.batches(loop.length, loop.batch, config.seed), ranks.device)
    require_measurable(config, data)
    model = new_model(config, data.tokenizer).to(ranks.device)
    if newest:  # before the slow steps below
        newest.require(**checkpoint_facts(data, model))
    torch.manual_seed(config.seed * 1000003 + ranks.rank)  # dropout; other random numbers have their own generators
    model.checkpoint_activations = loop.checkpoint_activations
    tokens, size = loop.batch * loop.length // ranks.world, model.parameter_count()
    if should_compile(loop.compile, ranks.device, loop.steps, tokens, size, len(model.layers)):
        model.compile()
    wrapped = distributed.wrap(model, ranks, loop.data_parallel)
    own = {key: getattr(optim, key) for key in optimizer_options(optim.name)}
    optimizer = build_optimizer(
        model, optim.name, optim.lr, (optim.betas[0], optim.betas[1]), optim.weight_decay, **own
    )
    for group in optimizer.param_groups:
        group["peak_lr"] = group["lr"]
    return Trainer(config, ranks, data, model, wrapped, optimizer, batches)


def new_model(config: TrainConfig, tokenizer: Tokenizer) -> Transformer:
    """The model before the first step: initialised from scratch, or with the weights of `init_from`."""
    extension = None if config.extension["scheme"] == "unchanged" else config.extension
    length, parts = config.train.length, (asdict(config.model), config.pe, config.positions, config.seed)
    if config.init_from is None:
        return build(tokenizer.vocab_size, length, *parts, extension)
    model = init_from.init_from_checkpoint(config.init_from, length, *parts, extension)
    require_embeddings(model, tokenizer, config.init_from)
    return model


def require_measurable(config: TrainConfig, data: Dataset) -> None:
    """Raise DataError before training if the data leave nothing to validate or to evaluate."""
    data.validation(config.train.length, config.train.valid_windows)
    if config.eval_at_end:
        protocols.from_config(config.eval).select(data, config.eval.resolved_lengths(config.train.length))


def loop(trainer: Trainer, folder: Path, tracker: Tracker, signals: "Signals") -> int:
    """Train to the last step and return 0. After a stop signal, save the state and return the signal's number."""
    config, progress = trainer.config, trainer.progress
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
            tracker.train(metrics_row(trainer, losses, lr, norm, rate))
            mark, losses = (now, progress.step), []
        if progress.step % config.train.valid_every == 0 or last:
            tracker.valid(validate(trainer))
            mark = (time.perf_counter(), progress.step)
        stop = signals.received if trainer.ranks.world == 1 else any_rank_signal(signals.received)
        if progress.step % config.checkpoint.every == 0 or last or stop:
            tracker.flush()
            save(trainer, folder)
        if stop and not last:
            return stop
    return 0


def train_step(trainer: Trainer) -> tuple[float, float, float]:
    """Make one update. Returns the learning rate, the mean loss over the global batch in nats, and the gradient norm
    before clipping.

    Loss and norm are checked before the weights change; one that is not finite skips the update on every rank.
    """
    config, progress, ranks = trainer.config, trainer.progress, trainer.ranks
    optim = config.optim
    multiplier = schedule(
        progress.step, config.train.steps, config.warmup_steps, optim.schedule, optim.min_lr_ratio, optim.decay_fraction
    )
    for group in trainer.optimizer.param_groups:
        group["lr"] = group["peak_lr"] * multiplier

    inputs, targets = trainer.batches.batch(progress.step, ranks.rank, ranks.world)
    (scored,) = distributed.mean_scalars(
        [float((targets != UNSCORED).sum())]
    )  # per rank: the loss averages over tokens
    size = config.train.micro_batch or len(inputs)
    pairs = zip(inputs.split(size), targets.split(size), strict=True)
    parts = [(x, y, float((y != UNSCORED).sum()) / scored) for x, y in pairs]
    total = torch.zeros((), device=ranks.device)
    generator = generator_for(config.seed, f"positions/{progress.step}/{ranks.rank}", exact_device(ranks.device))
    for number, (x, y, share) in enumerate(parts, start=1):
        x, y = (tensor.to(ranks.device, non_blocking=True) for tensor in (x, y))
        with distributed.accumulate(trainer.wrapped, last=number == len(parts)):
            with autocast(config.train.precision, ranks.device):
                loss = trainer.wrapped(x, y, generator=generator) * share
            loss.backward()
        total += loss.detach()
    norm = clip_gradients(trainer.model, optim.grad_clip)
    (mean,) = distributed.mean_scalars([total.item()])
    finite = math.isfinite(mean) and math.isfinite(norm)
    if finite:
        trainer.optimizer.step()
    trainer.optimizer.zero_grad(set_to_none=True)
    progress.step += 1
    note_bad_step(progress, finite, mean, norm)
    return optim.lr * multiplier, mean, norm


def note_bad_step(progress: TrainState, finite: bool, loss: float, norm: float) -> None:
    """Count a step that is not finite. Raises ModelError for the third one in a row."""
    progress.bad_in_a_row = 0 if finite else progress.bad_in_a_row + 1
    progress.skipped += not finite
    if progress.bad_in_a_row == BAD_STEPS:
        raise ModelError(
            f"loss={loss}, gradient norm={norm}: not finite {BAD_STEPS} steps in a row, at step {progress.step}.\n"
            "The weights are those of the last good step. Try a smaller optim.lr, a longer optim.warmup_fraction, "
            "or train.precision=fp32."
        )


def metrics_row(trainer: Trainer, losses: list[float], lr: float, norm: float, rate: float) -> dict[str, float]:
    """A row of metrics.jsonl. The loss is the mean over the steps since the previous row."""
    step = trainer.progress.step
    loss = statistics.fmean(losses)
    return {
        "step": step,
        "tokens": step * trainer.tokens_per_step,
        "loss": loss,
        "bits_per_byte": loss / math.log(2) * trainer.data.tokens_per_byte,
        "lr": lr,
        "grad_norm": norm,
        "tokens_per_s": rate,
        "skipped": trainer.progress.skipped,
    }


def validate(trainer: Trainer) -> dict[str, float]:
    """The loss on the validation split at the training length, and the share of correct answers for a task."""
    loop, data = trainer.config.train, trainer.data
    selection = data.validation(loop.length, loop.valid_windows)
    model, batch_tokens = gather_full_model(trainer.model), trainer.config.eval.batch_tokens
    figures = summary(score(model, selection, data.tokenizer.token_bytes, batch_tokens, loop.precision))
    step = trainer.progress.step
    return {
        "step": step,
        "tokens": step * trainer.tokens_per_step,
        "valid_loss": figures["nll"],
        "valid_bits_per_byte": figures["bits_per_byte"],
        **({"valid_exact": figures["exact"]} if "exact" in figures else {}),
    }


def save(trainer: Trainer, folder: Path) -> None:
    """Write a checkpoint. Call it on every rank."""
    state = {"model": trainer.model.config, "progress": asdict(trainer.progress)}
    checkpoint.save(
        folder / "checkpoints",
        trainer.progress.step,
        trainer.model,
        trainer.optimizer,
        state,
        trainer.config.checkpoint.keep,
        checkpoint_facts(trainer.data, trainer.model),
    )


def resume(trainer: Trainer, newest: checkpoint.Checkpoint) -> None:
    """Restore weights, optimizer, random numbers and progress from a checkpoint."""
    checkpoint.load_model(newest, trainer.model)
    checkpoint.load_optimizer(newest, trainer.model, trainer.optimizer)
    checkpoint.load_rng(newest, trainer.ranks.rank)
    trainer.progress = TrainState(**newest.state["progress"])


def checkpoint_facts(data: Dataset, model: Transformer) -> dict[str, Any]:
    """The values that a checkpoint must share with the run that continues it."""
    return {
        "tokenizer": data.tokenizer.digest,
        "data_fingerprint": data.fingerprint,
        **model.config,  # vocab_size, train_length, and the options of model, pe and positions
    }


def run_info(trainer: Trainer) -> dict[str, Any]:
    """The facts of a run for tables and dashboards that are known before it has trained."""
    config = trainer.config
    return {
        "scheme": config.pe["name"],
        "model": config.model.name,
        "data": config.data.name,
        "data_fingerprint": trainer.data.fingerprint,
        "train_length": config.train.length,
        "seed": config.seed,
        "steps": config.train.steps,
        "tokens": config.train.steps * trainer.tokens_per_step,
        "parameters": trainer.model.parameter_count(),
        "parameters_non_embedding": trainer.model.parameter_count(embedding=False),
    }


def run_summary(trainer: Trainer, tracker: Tracker) -> dict[str, Any]:
    """The results of training. Throughput is the median over the rows of metrics.jsonl."""
    rows = tracker.rows()
    training = [row for row in rows if "loss" in row]
    valid = [row for row in rows if "valid_loss" in row]
    return {
        "loss": training[-1]["loss"],
        **{key: value for key, value in valid[-1].items() if key.startswith("valid_")},
        "tokens_per_s": statistics.median(row["tokens_per_s"] for row in training),
        "seconds": trainer.progress.seconds,
        "skipped": trainer.progress.skipped,
    }


class Signals:
    """Records the last stop signal during the block. A second Ctrl-C ends the process at once. Other signals may arrive
    twice: from a scheduler that signals every process, and from torchrun, which forwards its own."""

    def __init__(self) -> None:
        self.received = 0
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        self.before = {number: signal.signal(number, self._note) for number in STOPPING}
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        self.received = number
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)


def any_rank_signal(received: int) -> int:
    """The signal that any rank has received, so that all ranks stop after the same step."""
    return int(distributed.max_scalar(received))
