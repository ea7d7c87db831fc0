"""The configuration: types and rules of every fixed key. The values are in the YAML files of configs/.

A key has no default here, so that its value is written once. `model` is the exception (see `model/config.py`). The
plug-ins (`pe`, `positions`, `extension`) are dicts; their options are checked against the constructor of the plug-in.
"""

from dataclasses import MISSING, dataclass, field, make_dataclass
from typing import Any

from data.options import TextOptions
from longrun.training.optimizers import OPTIMIZERS
from longrun.training.optimizers import options as optimizer_options
from model.config import ModelConfig


def key(doc: str, default: Any = MISSING, **rules: Any) -> Any:
    """A key of the configuration. Rules: choices, minimum, maximum, above (exclusive), filled, example.

    default: only for keys that were added later and may be missing in a YAML; all other values are in the YAML files.
    Such a key is marked `later`: at its default it is not part of a run's fingerprint (longrun/runs/run_folder.py).
    """
    later = {} if default is MISSING else {"later": True}
    return field(default=default, metadata={"doc": doc, **later, **rules})


@dataclass
class OptimConfig:
    name: str = key("the optimizer: a file of longrun/training/optimizers/", choices=OPTIMIZERS)
    lr: float = key("peak learning rate", above=0.0, example=0.001)
    betas: list[float] = key("decay of the two running means", minimum=0.0, maximum=0.99999, example="'[0.9,0.95]'")
    weight_decay: float = key("decoupled weight decay of matrices", minimum=0.0, example=0.1)
    grad_clip: float | None = key("largest gradient norm; null = no clipping", above=0.0, example=1.0)
    schedule: str = key("the learning rate after the warmup", choices=("cosine", "wsd", "constant"))
    warmup_fraction: float = key("share of the steps that warm up", minimum=0.0, maximum=1.0, example=0.05)
    decay_fraction: float = key("wsd: share of the steps that cool down", minimum=0.0, maximum=1.0, example=0.2)
    min_lr_ratio: float = key("learning rate at the end, as a share of lr", minimum=0.0, maximum=1.0, example=0.1)


def optim_schema(name: str) -> type[OptimConfig]:
    """OptimConfig with the own options of the optimizer `name`. Raises ConfigError if its file is not as expected."""
    own = [
        (option, annotation, key(f"option of {name}", default))
        for option, (annotation, default) in optimizer_options(name).items()
    ]
    own.sort(key=lambda item: item[2].default is not MISSING)  # a dataclass has its required fields first
    return make_dataclass("OptimConfig", own, bases=(OptimConfig,))


@dataclass
class LoopConfig:
    length: int = key("tokens per training sequence", minimum=2, example=128)
    steps: int = key("optimizer steps", minimum=1, example=1000)
    batch: int = key("sequences per step, over all devices", minimum=1, example=32)
    micro_batch: int | None = key("sequences per forward pass; null = the whole batch", minimum=1, example=8)
    log_every: int = key("steps between rows of metrics.jsonl", minimum=1, example=10)
    valid_every: int = key("steps between validations", minimum=1, example=250)
    valid_windows: int = key("windows scored per validation", minimum=1, example=64)
    precision: str = key(
        "number format of the matrix products; auto = bf16 where it is fast",
        choices=("auto", "fp32", "bf16", "fp32_medium"),
    )
    compile: bool | str = key(
        "torch.compile the model; auto = if the run is long enough to save time", choices=("auto", True, False)
    )
    checkpoint_activations: bool = key(
        "recompute the activations of a layer in the backward pass: less memory, a third slower"
    )
    data_parallel: str = key(
        "several processes: ddp = each holds the model, fsdp = each holds a part of it", choices=("ddp", "fsdp")
    )
    timeout: float = key("seconds after which a hanging process is given up", above=0.0, example=600)
    threads: int | None = key("CPU threads; null = default of the launcher or torch", minimum=1, example=2)
    device: str = key("device of the computation", choices=("auto", "cpu", "cuda", "mps"))


@dataclass
class CheckpointConfig:
    every: int = key("steps between checkpoints", minimum=1, example=500)
    keep: int = key("number of checkpoints that are kept", minimum=1, example=2)


@dataclass
class EvalConfig:
    """The evaluation of a trained model: at the end of a run (`train.py`), or on its own (`eval.py`).

    `eval_overrides.with_protocol_options` adds the options of the protocols (longrun/evaluation/protocols).
    """

    protocol: str | None = key(
        "which tokens are fed and which are scored; null = fixed_targets for text, exact_match for a task",
        example="sliding",
    )
    lengths: list[int] | None = key("context lengths; null = ratios", filled=True, minimum=1, example="'[128,256]'")
    ratios: list[float] | None = key(
        "lengths as multiples of the training length; null = 1/2 to 16 for text, 1/2 to 5 for a task",
        filled=True,
        above=0.0,
        example="'[1,2]'",
    )
    split: str = key("which documents", choices=("test", "valid", "train"))
    documents: int | None = key("at most this many documents; null = all that are long enough", minimum=1, example=64)
    extensions: list[Any] | None = key(
        "changes of the encoding, measured one after the other; on the command line of eval.py: extension=none,yarn",
        filled=True,
        example="'[none,yarn]'",
    )
    batch_tokens: int | None = key(
        "tokens in one forward pass; null = 4096 on a CPU, else 32768", minimum=1, example=16384
    )
    control: bool = key("also measure with attention limited to the training length")

    def resolved_lengths(self, train_length: int) -> list[int]:
        """`lengths`, or `ratios` times the training length; increasing, without repetitions."""
        assert self.lengths or self.ratios, "filled in when the configuration is checked"
        return sorted(set(self.lengths or [max(1, round(ratio * train_length)) for ratio in self.ratios or []]))


@dataclass
class TrackerConfig:
    mode: str = key("mirror metrics.jsonl to wandb", choices=("offline", "online", "off"))
    project: str = key("wandb project", example="longrun")
    entity: str | None = key("wandb team or user; null = the default of the login", example="team")
    group: str | None = key("wandb group; null = the experiment or the run", example="paper")
    tags: list[str] = key("wandb tags besides scheme and length", example="'[ablation]'")


@dataclass
class LaunchConfig:
    slots: int | None = key("jobs of a sweep at a time; null = one per GPU, else one per core", minimum=1, example=2)
    nproc: int = key("processes per job (2 or more: torchrun)", minimum=1, example=2)
    grace: float = key("seconds that a job has to save after Ctrl-C", minimum=0.0, example=30)


@dataclass
class TrainConfig:
    """All keys of `train.py`."""

    seed: int = key("seed of the weights, the data order and dropout", minimum=0, example=0)
    root: str = key("folder of the run folders", example="runs")
    eval_at_end: bool = key("evaluate when training has finished")
    # The sizes and the tokenizer are then those of that folder, and so are pe and positions unless they are overridden.
    init_from: str | None = key("start from the weights of a run or a Hugging Face folder", example="runs/NAME")
    model: ModelConfig = key("size and blocks of the transformer")
    pe: dict[str, Any] = key("the position encoding")
    positions: dict[str, Any] = key("the position ids of the tokens")
    extension: dict[str, Any] = key("change of the encoding for train.length tokens, with init_from")
    data: TextOptions = key("the text and its tokenizer, or a task: the options that data/*/<source>.py declares")
    optim: OptimConfig = key("optimizer and learning-rate schedule")
    train: LoopConfig = key("the loop")
    checkpoint: CheckpointConfig = key("saving of the state")
    eval: EvalConfig = key("the evaluation at the end")
    tracker: TrackerConfig = key("wandb")
    launch: LaunchConfig = key("start of the jobs of a sweep")

    @property
    def warmup_steps(self) -> int:
        return round(self.optim.warmup_fraction * self.train.steps)

    @property
    def decay_steps(self) -> int:
        return round(self.optim.decay_fraction * self.train.steps)


@dataclass
class EvalRunConfig(EvalConfig):
    """Every key of `eval.py`."""

    run: str | None = key("run folder", example="runs/rope-tiny-stdlib-L128-s0-0a1b2c3d")
    hf: str | None = key("folder of a Hugging Face checkpoint", example="checkpoint/")
    extension: str | dict[str, Any] = key("change of the encoding for lengths beyond training", example="yarn")
    data: dict[str, Any] = key("changes to the run's own data; with hf: the corpus")
    train_length: int | None = key(
        "hf: the length the model was trained at; null = its config", minimum=1, example=2048
    )
    out: str | None = key("folder for the results; null = eval/ inside the model's folder", example="results")
    threads: int | None = key("CPU threads; null = what torch chooses", minimum=1, example=2)
    device: str = key("where to compute", choices=("auto", "cpu", "cuda", "mps"))
    precision: str = key("number format of the matrix products", choices=("auto", "fp32", "bf16", "fp32_medium"))
