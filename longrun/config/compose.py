"""From the words of a command line to plain values, with Hydra kept to composing.

Hydra writes nothing and changes no folder here, and what it refuses becomes a message of ours. Every word is checked
before Hydra reads it: the key or group that it names, and whether that exists.
"""

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, cast

import yaml

from longrun.base.errors import ConfigError
from longrun.base.paths import CONFIGS
from longrun.base.suggest import suggest
from longrun.config import eval_overrides, init_from
from longrun.config.schema import OptimConfig, optim_schema
from longrun.config.validate import UnknownKey, dotted_keys, keys, show
from longrun.training.optimizers import OPTIMIZERS

PLUGINS = Path(__file__).resolve().parent.parent / "launch"  # the folder with hydra_plugins/
INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
# Groups that one command may set to several names, a,b,c, and the key that then holds the list.
LISTS = {"eval": {"extension": "extensions"}}
KEY_OF_FOLDER = {"feed_forward": "model.mlp", "tokenizer": "data.tokenizer"}  # folders of configs/ that are no groups


class Parser(argparse.ArgumentParser):
    """The flags in front of and between the overrides. A subset of Hydra's, under the same names."""

    def __init__(self) -> None:
        super().__init__(add_help=False, allow_abbrev=False)
        self.add_argument("overrides", nargs="*")
        self.add_argument("--multirun", "-m", action="store_true")
        self.add_argument("--cfg", "-c", choices=["job", "hydra", "all"])
        self.add_argument("--package", "-p")
        self.add_argument("--resolve", action="store_true")
        self.add_argument("--info", "-i", const="all", nargs="?", choices=INFO)
        self.add_argument("--config-dir", "-cd")
        self.add_argument("--hydra-help", action="store_true")
        self.add_argument("--shell-completion", "-sc", action="store_true")

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}\nOptions are written key=value, for example optim.lr=0.001; see --help")


def parse(words: list[str]) -> argparse.Namespace:
    """Separate flags and overrides; `.overrides` holds the overrides, `.words` all words. Raises ConfigError."""
    arguments = Parser().parse_intermixed_args(words)  # "a=1 -m b=2" too
    arguments.words = words
    return arguments


def compose(config_name: str, schema: Any, arguments: argparse.Namespace, job: Callable[[dict[str, Any]], Any]) -> Any:
    """The plain values of one run; None after a sweep, `--cfg` and the like, which are carried out here.

    job: called in each job of a sweep by a launcher other than ours.
    """
    if (plugins := str(PLUGINS)) not in sys.path:
        sys.path.insert(0, plugins)
    import hydra

    store_defaults()
    schema = eval_overrides.with_protocol_options(schema)
    extra = Path(arguments.config_dir).resolve() if arguments.config_dir else None
    if extra and not extra.is_dir():
        raise ConfigError(f"--config-dir {arguments.config_dir}: there is no such folder")
    if arguments.shell_completion:
        return through_hydra(config_name, arguments.words, job)
    words = checked_overrides(arguments.overrides, config_name, schema, arguments.multirun, extra)
    if any((arguments.multirun, arguments.cfg, arguments.info, arguments.hydra_help)):
        through_hydra(config_name, [*flags(arguments), *words], job)
        return None
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3", job_name=config_name):
        search = [f"hydra.searchpath=[file://{extra}]"] if extra else []
        config = hydra.compose(config_name, overrides=[*words, *search], return_hydra_config=True)
    require_one_run(config.hydra)
    return plain_values(config, config.hydra.runtime.choices)


def require_one_run(hydra: Any) -> None:
    """Raise ConfigError for an experiment that is a sweep, unless the command line sets all keys that it varies. Hydra
    would run one job, with the defaults."""
    swept = list(hydra.sweeper.get("params") or {})
    if set(swept) <= set(eval_overrides.keys(hydra.overrides.task)):
        return
    name = f"experiment={hydra.runtime.choices.get('experiment')}"
    raise ConfigError(
        f"{name} is a sweep over {', '.join(swept)}.\n"
        f"Try python train.py -m {name}, or select one run of it: {name} {'=... '.join(swept)}=..."
    )


def through_hydra(config_name: str, words: list[str], job: Callable[[dict[str, Any]], Any]) -> None:
    """Run Hydra's own program, for everything but a single run (which it would compose twice)."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions reach `cli.guarded` instead of being printed
    import hydra
    from hydra.core.hydra_config import HydraConfig

    @hydra.main(config_path=str(CONFIGS), config_name=config_name, version_base="1.3")
    def task(config: Any) -> None:
        job(plain_values(config, HydraConfig.get().runtime.choices))

    with command_line(words):
        task()


def plain_values(config: Any, choices: Any) -> dict[str, Any]:
    """A composed configuration as Python values, without Hydra's own part. An experiment names its wandb group."""
    from omegaconf import OmegaConf, open_dict

    experiment, cli_keys = choices.get("experiment"), eval_overrides.keys(config.hydra.overrides.task)
    with open_dict(config):
        config.pop("hydra", None)
    values = cast("dict[str, Any]", OmegaConf.to_container(config, resolve=True))
    if values.get("init_from") is not None:
        init_from.drop_defaults(values, cli_keys, choices, groups("train"))
    if values.get("run") is not None:
        eval_overrides.inherit_run_config(values, cli_keys)
    eval_overrides.check_protocol_options(values, cli_keys)
    check_files(choices)
    tracker = values.get("tracker")
    if isinstance(tracker, dict) and tracker.get("group") is None:
        tracker["group"] = experiment
    return values


def check_files(choices: Any) -> None:
    """Raise ConfigError, naming the YAML file, if a selected plug-in's `name` or an optimizer's option is wrong."""
    for group in ("pe", "positions", "extension"):
        file = CONFIGS / group / f"{choices.get(group)}.yaml"
        value = yaml.safe_load(file.read_text()).get("name") if file.is_file() else file.stem
        if value != file.stem:
            raise ConfigError(
                f"configs/{group}/{file.name}: name is {show(value)}.\nWrite name: {file.stem}, as the file is called"
            )
    file = CONFIGS / "optim" / f"{choices.get('optim')}.yaml"
    if file.is_file():
        check_optimizer_file(file.stem, yaml.safe_load(file.read_text()))


def check_optimizer_file(stem: str, values: dict[str, Any]) -> None:
    """Raise ConfigError if configs/optim/STEM.yaml names no optimizer, another than its own, or an unknown option."""
    name = values.get("name")
    if stem in OPTIMIZERS and name != stem:
        raise ConfigError(
            f"configs/optim/{stem}.yaml: name={show(name)}, expected name: {stem}, the file "
            f"longrun/training/optimizers/{stem}.py"
        )
    if name not in (None, *OPTIMIZERS):
        raise ConfigError(
            f"configs/optim/{stem}.yaml: name={show(name)} is no file of longrun/training/optimizers.\n"
            f"There are: {', '.join(OPTIMIZERS)}"
        )
    known = {"defaults", *keys(optim_schema(name) if name else OptimConfig)}
    if name and (unknown := sorted(values.keys() - known)):
        raise ConfigError(
            f"configs/optim/{stem}.yaml: {unknown[0]} is not an option of {name} in "
            f"longrun/training/optimizers/{name}.py.\nThere are: {', '.join(sorted(known - {'defaults'}))}"
        )


def store_defaults() -> None:
    """Add the defaults that are in Python to Hydra's YAML files: `model/defaults` (ModelConfig, because `model.build`
    needs them) and `eval/protocols` (the options of the protocols)."""
    from dataclasses import asdict

    from hydra.core.config_store import ConfigStore

    from longrun.evaluation.protocols import registry as protocols
    from model.config import ModelConfig

    store = ConfigStore.instance().store
    store(group="model", name="defaults", node=asdict(ModelConfig()))
    store(group="eval", name="protocols", node=protocols.defaults())


def flags(arguments: argparse.Namespace) -> list[str]:
    """The words that are not overrides."""
    overrides = list(arguments.overrides)
    words = []
    for word in arguments.words:
        if word in overrides:
            overrides.remove(word)
        else:
            words.append(word)
    return words


@contextmanager
def command_line(words: list[str]):
    """Replace sys.argv during the block: `hydra.main` reads nothing else."""
    before = sys.argv
    sys.argv = [before[0], *words]
    try:
        yield
    finally:
        sys.argv = before


def groups(config_name: str) -> dict[str, str]:
    """The config groups of an entry point and their defaults: {"model": "tiny", ...}."""
    entries = yaml.safe_load((CONFIGS / f"{config_name}.yaml").read_text())["defaults"]
    pairs = [next(iter(entry.items())) for entry in entries if isinstance(entry, dict)]
    return {group: name for group, name in pairs if "@" not in group and not group.startswith("override ")}


def options(group: str, extra: Path | None = None) -> list[str]:
    """The names of a group's files; `extra` is the folder of --config-dir."""
    folders = [CONFIGS / group] + ([extra / group] if extra else [])
    names = {path.stem for folder in folders for path in folder.glob("*.yaml")}
    return sorted(names - {"defaults"})


def checked_overrides(
    words: list[str], config_name: str, schema: Any, multirun: bool, extra: Path | None = None
) -> list[str]:
    """Check the overrides of a command line and return them for Hydra.

    Every `key=value` becomes `++key=value`, so that Hydra composes any key and one validator (`validate.py`) reports
    all unknown keys, of the command line and of YAML files. Raises ConfigError.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    names, checked, parser = groups(config_name), [], OverridesParser.create()
    for word in words:
        try:
            override = parser.parse_override(word)
        except HydraException:
            raise ConfigError(unreadable(word, config_name, schema)) from None
        name = str(override.key_or_group)
        if name not in names and (CONFIGS / name).is_dir() and name not in keys(schema):
            raise no_group(config_name, name, word.split("=", 1)[-1], keys(schema))
        ours = not name.startswith("hydra") and "@" not in word.split("=")[0]
        if name in LISTS.get(config_name, {}) and override.is_choice_sweep():
            check_group(name, override, config_name, extra)
            checked.append(f"++{LISTS[config_name][name]}=[{','.join(map(str, override.sweep_iterator()))}]")
            continue
        if ours and override.is_sweep_override() and not multirun:
            raise ConfigError(several_values(word, name, schema))
        if ours and name in names:
            check_group(name, override, config_name, extra)
        is_value = ours and name not in names and not override.is_delete()
        checked.append(f"++{word.lstrip('+')}" if is_value else word)
    return checked


def no_group(config_name: str, name: str, value: str, names: list[str]) -> ConfigError:
    """The refusal of a group that only train.py has, such as eval.py pe=rope: the run has its encoding already."""
    if config_name != "eval" and name in KEY_OF_FOLDER:
        return ConfigError(f"{name}={value}: there is no key {name}.\nTry {KEY_OF_FOLDER[name]}={value}")
    if config_name != "eval":
        return UnknownKey(name, value, names)
    return ConfigError(
        f"{name}={value}: there is no key {name} in eval.py, the run has its {name} already.\n"
        f"For longer texts: extension=NAME. To train further: python train.py init_from=RUN {name}={value}"
    )


def check_group(group: str, override: Any, config_name: str, extra: Path | None) -> None:
    """Raise ConfigError unless every name that the override selects is a file of the group."""
    names = options(group, extra)
    if override.is_delete():
        return
    if override.is_sweep_override():
        selected = list(override.sweep_iterator()) if override.is_choice_sweep() else []
    else:
        selected = [override.value()]
    for name in selected:
        if isinstance(name, dict | list):
            raise ConfigError(
                f"{group}={show(name)}: {group} is selected by name, its options are set one by one.\n"
                f"Try {group}={names[0]} {group}.KEY=VALUE"
            )
        if name is not None and str(name) not in names:
            raise ConfigError(unknown_option(group, str(name), names, [*groups(config_name)]))


def unknown_option(group: str, name: str, names: list[str], others: list[str]) -> str:
    near = suggest(name, names)
    hint = f"Did you mean {group}={near[0]}?\n" if near else ""
    elsewhere = [other for other in others if name in options(other)]
    if elsewhere and name not in near:
        hint, near = f"There is {' and '.join(f'{other}={name}' for other in elsewhere)}.\n", []
    listed = ", ".join(dict.fromkeys(near + names))
    return f"{group}={name}: there is no configs/{group}/{name}.yaml.\n{hint}There are: {listed}"


def unreadable(word: str, config_name: str, schema: Any) -> str:
    name = word.split("=", 1)[0]
    if "=" not in word:
        near = suggest(name, [*groups(config_name), *(key for key, _, _ in dotted_keys(schema))])
        example = "pe=rope train.steps=200" if config_name == "train" else "run=runs/NAME"
        hint = f"run={word}" if config_name == "eval" and Path(word).exists() else f"{near[0]}=..." if near else example
        return f"{word}: expected key=value.\nTry {hint}"
    return f"{word}: this value cannot be read.\nPut a text with spaces, commas or brackets in quotes: '{name}=\"...\"'"


def several_values(word: str, name: str, schema: Any) -> str:
    hints = {key: hint for key, hint, _ in dotted_keys(schema)}
    text = word.split("=", 1)[1]
    if str(hints.get(name, "")).startswith("list"):
        return f"{word}: a list is written in brackets.\nTry '{name}=[{text}]'"
    return f"{word} names several values, and one run has one.\nFor a run of each, add -m: python train.py -m {word}"
