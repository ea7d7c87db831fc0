"""The text of `--help`, from the YAML files and the schema, without composing."""

from typing import Any

import yaml

from longrun.base.paths import CONFIGS
from longrun.config import schema
from longrun.config.compose import groups, options
from longrun.config.validate import dotted_keys, show
from longrun.evaluation.protocols import registry as protocols

KEYS = {
    "train": [
        "train.length",
        "train.steps",
        "train.batch",
        "optim.lr",
        "data.path",
        "seed",
        "root",
        "eval_at_end",
        "init_from",
        "checkpoint.every",
        "train.device",
    ],
    "eval": [
        "run",
        "hf",
        "protocol",
        "lengths",
        "documents",
        "control",
        "batch_tokens",
        "out",
    ],
}
EXAMPLES = {
    "train": """\
  python train.py pe=alibi train.steps=200               one run
  python train.py -m pe=nope,rope,alibi seed=0,1,2       nine runs; again: only what is missing
  python train.py pe=rope data=text data.path=book.txt   your own text
  torchrun --nproc-per-node=2 train.py pe=rope           one run on two devices""",
    "eval": """\
  python eval.py run=runs/NAME                                    1/2 to 16 times the training length
  python eval.py run=runs/NAME protocol=sliding 'lengths=[128,512]'
  python eval.py run=runs/NAME extension=none,ntk,yarn            a RoPE model, and two ways to extend it
  python eval.py run=runs/NAME protocol=needle variant=multi_key  facts hidden in text
  python eval.py hf=FOLDER data=text data.path=book.txt           a Hugging Face checkpoint""",
}
FLAGS = {
    "train": """\
  -m           a sweep: every combination of values given as a,b,c, one process each
  --cfg job    print the configuration and stop
  --help       this text""",
    "eval": """\
  --cfg job    print the configuration and stop
  --help       this text""",
}
PROTOCOL_KEYS = {"train": "eval.protocol=NAME eval.KEY=VALUE", "eval": "protocol=NAME KEY=VALUE"}
SUMMARY = {
    "train": "Train a language model with one position encoding, and measure it beyond its training length.",
    "eval": "Measure a trained model at context lengths beyond the one it was trained at.",
}


def text(config_name: str) -> str:
    """The help of train.py ("train") or eval.py ("eval")."""
    defaults = groups(config_name)
    width = max(map(len, defaults)) + 2
    listings = "\n".join(f"  {group:{width}}{listing(group, default)}" for group, default in defaults.items())
    return (
        f"{SUMMARY[config_name]}\n\nusage: python {config_name}.py [key=value ...]\n\n"
        f"Select a file (in configs/; * is the default):\n{listings}\n\n"
        f"Keys used most (longrun/config/schema.py has all):\n{most_used(config_name)}\n\n"
        f"Protocols and their options ({PROTOCOL_KEYS[config_name]}):\n{protocol_options()}\n\n"
        f"Flags:\n{FLAGS[config_name]}\n\nExamples:\n{EXAMPLES[config_name]}"
    )


def listing(group: str, default: str | None, width: int = 82) -> str:
    """The names of a group on one line, the default first."""
    names = [name for name in options(group) if name != default]
    line = "  ".join(([f"{default}*"] if default else []) + names)
    if len(line) <= width:
        return line
    cut = line[:width].rsplit("  ", 1)[0]
    return f"{cut}  ... {len(options(group))} in all"


def most_used(config_name: str) -> str:
    root = {"train": schema.TrainConfig, "eval": schema.EvalRunConfig}[config_name]
    described = {key: rules["doc"] for key, _, rules in dotted_keys(root)}
    rows = [(f"{key}={show(default(config_name, key))}", described[key]) for key in KEYS[config_name]]
    width = max(len(left) for left, _ in rows) + 2
    return "\n".join(f"  {left:{width}}{right}" for left, right in rows)


def protocol_options() -> str:
    """One line per protocol."""
    defaults, width = protocols.defaults(), max(map(len, protocols.names())) + 2
    rows = [
        (name, "  ".join(f"{key}={show(defaults[key])}" for key in protocols.load(name).declared()))
        for name in protocols.names()
    ]
    return "\n".join(f"  {name:{width}}{options}".rstrip() for name, options in rows)


def default(config_name: str, key: str) -> Any:
    """The default of a key, read from the YAML file that holds it."""
    primary = read(f"{config_name}.yaml")
    defaults = groups(config_name)
    first, *rest = key.split(".")
    value = read(f"{first}/{defaults[first]}.yaml") if defaults.get(first) else primary.get(first)
    if config_name == "eval" and first not in primary:
        value = read("eval/default.yaml").get(first)
    for part in rest:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def read(path: str) -> dict[str, Any]:
    """A YAML file of configs/; {} if there is none."""
    return yaml.safe_load((CONFIGS / path).read_text()) if (CONFIGS / path).is_file() else {}
