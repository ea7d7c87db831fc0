"""Hydra, kept to composing: it writes nothing, changes no folder, and what it refuses becomes a message of ours."""

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from longrun.base.errors import ConfigError
from longrun.base.paths import CONFIGS
from longrun.config import eval_overrides, init_from, overrides
from longrun.training.optimizers import OPTIMIZERS

PLUGINS = Path(__file__).resolve().parent.parent / "launch"  # the folder with hydra_plugins/


def parse(words: list[str]) -> argparse.Namespace:
    """Read the flags with Hydra's own parser; `.overrides` holds the rest, `.words` everything."""
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()

    def refuse(message: str) -> Any:
        raise ConfigError(f"{message}\nOptions are written key=value, for example optim.lr=0.001; see --help")

    parser.error = refuse
    arguments = parser.parse_intermixed_args(words)  # "a=1 -m b=2" too
    arguments.words = words
    return arguments


def compose(config_name: str, schema: Any, arguments: argparse.Namespace, job: Callable[[dict[str, Any]], Any]) -> Any:
    """The plain values of one run. A sweep, `--cfg` and the like are carried out, and None is returned.

    job: what a launcher other than ours calls in each job of a sweep.
    """
    if (plugins := str(PLUGINS)) not in sys.path:
        sys.path.insert(0, plugins)
    import hydra

    store_model_defaults()
    extra = Path(arguments.config_dir).resolve() if arguments.config_dir else None
    if extra and not extra.is_dir():
        raise ConfigError(f"--config-dir {arguments.config_dir}: there is no such folder")
    if arguments.shell_completion:
        return through_hydra(config_name, arguments.words, job)
    words = overrides.prepare(arguments.overrides, config_name, schema, arguments.multirun, extra)
    if any((arguments.multirun, arguments.cfg, arguments.info, arguments.hydra_help)):
        through_hydra(config_name, [*flags(arguments), *words], job)
        return None
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3", job_name=config_name):
        search = [f"hydra.searchpath=[file://{extra}]"] if extra else []
        config = hydra.compose(config_name, overrides=[*words, *search], return_hydra_config=True)
    require_one_run(config.hydra)
    return plain(config, config.hydra.runtime.choices)


def require_one_run(hydra: Any) -> None:
    """Raise ConfigError for an experiment that is a sweep, unless all that it varies was said. Hydra would run one job
    of it, with whatever the defaults are."""
    swept = list(hydra.sweeper.get("params") or {})
    if set(swept) <= set(eval_overrides.keys(hydra.overrides.task)):
        return
    name = f"experiment={hydra.runtime.choices.get('experiment')}"
    raise ConfigError(
        f"{name} is a sweep over {', '.join(swept)}.\n"
        f"Try python train.py -m {name}, or choose one run of it: {name} {'=... '.join(swept)}=..."
    )


def through_hydra(config_name: str, words: list[str], job: Callable[[dict[str, Any]], Any]) -> None:
    """Hydra's own program, for everything but a single run (which it would compose twice)."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions reach `cli.guarded` instead of being printed
    import hydra
    from hydra.core.hydra_config import HydraConfig

    @hydra.main(config_path=str(CONFIGS), config_name=config_name, version_base="1.3")
    def task(config: Any) -> None:
        job(plain(config, HydraConfig.get().runtime.choices))

    with command_line(words):
        task()


def plain(config: Any, choices: Any) -> dict[str, Any]:
    """A composed configuration as Python values, without Hydra's own part. An experiment names its wandb group."""
    from omegaconf import OmegaConf, open_dict

    experiment, said = choices.get("experiment"), eval_overrides.keys(config.hydra.overrides.task)
    with open_dict(config):
        config.pop("hydra", None)
    values = cast("dict[str, Any]", OmegaConf.to_container(config, resolve=True))
    if values.get("init_from") is not None:
        init_from.leave_out_defaults(values, said, choices)
    if values.get("run") is not None:
        eval_overrides.as_the_run(values, said)
    eval_overrides.require_fitting(values, said)
    check_optimizer_name(values, said, choices.get("optim"))
    tracker = values.get("tracker")
    if isinstance(tracker, dict) and tracker.get("group") is None:
        tracker["group"] = experiment
    return values


def check_optimizer_name(values: dict[str, Any], said: list[str], chosen: str | None) -> None:
    """Raise ConfigError for configs/optim/NAME.yaml that names no optimizer, or not the one of its own name."""
    name = (values.get("optim") or {}).get("name")
    if chosen is None or "optim.name" in said or name == chosen or (name in OPTIMIZERS and chosen not in OPTIMIZERS):
        return
    raise ConfigError(
        f"configs/optim/{chosen}.yaml: name={name}, expected name: {chosen}, the file "
        f"longrun/training/optimizers/{chosen}.py.\nThere are: {', '.join(OPTIMIZERS)}"
    )


def store_model_defaults() -> None:
    """Hydra's `model/defaults`: the defaults of ModelConfig, which are in Python because `model.build` needs them."""
    from dataclasses import asdict

    from hydra.core.config_store import ConfigStore

    from model.config import ModelConfig

    ConfigStore.instance().store(group="model", name="defaults", node=asdict(ModelConfig()))


def flags(arguments: argparse.Namespace) -> list[str]:
    """The words that are not overrides."""
    rest = list(arguments.overrides)
    kept = []
    for word in arguments.words:
        if word in rest:
            rest.remove(word)
        else:
            kept.append(word)
    return kept


@contextmanager
def command_line(words: list[str]):
    """`hydra.main` reads sys.argv and nothing else."""
    before = sys.argv
    sys.argv = [before[0], *words]
    try:
        yield
    finally:
        sys.argv = before
