"""The words of the command line, before Hydra reads them: what each names, and whether it exists."""

from pathlib import Path
from typing import Any

import yaml

from longrun.base.errors import ConfigError
from longrun.base.paths import CONFIGS
from longrun.base.suggest import suggest
from longrun.config.validate import UnknownKey, dotted_keys, keys, show

# Groups of which one command may name several, a,b,c, and the key that then holds the list.
SEVERAL = {"eval": {"extension": "extensions"}}


def groups(config_name: str) -> dict[str, str]:
    """The config groups of an entry point and their defaults: {"model": "tiny", ...}."""
    entries = yaml.safe_load((CONFIGS / f"{config_name}.yaml").read_text())["defaults"]
    chosen = [next(iter(entry.items())) for entry in entries if isinstance(entry, dict)]
    return {group: name for group, name in chosen if "@" not in group and not group.startswith("override ")}


def options(group: str, extra: Path | None = None) -> list[str]:
    """The names a group can be set to; `extra` is a folder given with --config-dir."""
    folders = [CONFIGS / group] + ([extra / group] if extra else [])
    names = {path.stem for folder in folders for path in folder.glob("*.yaml")}
    return sorted(names - {"defaults"})


def prepare(words: list[str], config_name: str, schema: Any, multirun: bool, extra: Path | None = None) -> list[str]:
    """Check the overrides of a command line and return them for Hydra.

    Every `key=value` becomes `++key=value`, so that Hydra composes whatever was typed and one validator
    (`validate.py`) answers for it, no matter where a key came from. Raises ConfigError.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    known, prepared, parser = groups(config_name), [], OverridesParser.create()
    for word in words:
        try:
            override = parser.parse_override(word)
        except HydraException:
            raise ConfigError(unreadable(word, config_name, schema)) from None
        name = str(override.key_or_group)
        if name not in known and (CONFIGS / name).is_dir() and name not in keys(schema):
            raise no_group(config_name, name, word.split("=", 1)[-1], keys(schema))
        ours = not name.startswith("hydra") and "@" not in word.split("=")[0]
        if name in SEVERAL.get(config_name, {}) and override.is_choice_sweep():
            check_group(name, override, config_name, extra)
            prepared.append(f"++{SEVERAL[config_name][name]}=[{','.join(map(str, override.sweep_iterator()))}]")
            continue
        if ours and override.is_sweep_override() and not multirun:
            raise ConfigError(several_values(word, name, schema))
        if ours and name in known:
            check_group(name, override, config_name, extra)
        value = ours and name not in known and not override.is_delete()
        prepared.append(f"++{word.lstrip('+')}" if value else word)
    return prepared


def no_group(config_name: str, name: str, given: str, known: list[str]) -> ConfigError:
    """For a group of train.py that eval.py has not: what is measured was decided when it was trained."""
    if config_name != "eval":
        return UnknownKey(name, given, known)
    return ConfigError(
        f"{name}={given}: there is no key {name} in eval.py, the run has its {name} already.\n"
        f"To serve longer texts: extension=NAME. To train on: python train.py init_from=RUN {name}={given}"
    )


def check_group(group: str, override: Any, config_name: str, extra: Path | None) -> None:
    names = options(group, extra)
    if override.is_delete():
        return
    if override.is_sweep_override():
        chosen = list(override.sweep_iterator()) if override.is_choice_sweep() else []
    else:
        chosen = [override.value()]
    for name in chosen:
        if isinstance(name, dict | list):
            raise ConfigError(
                f"{group}={show(name)}: {group} is chosen by name, its options are set one by one.\n"
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
        usual = "pe=rope train.steps=200" if config_name == "train" else "run=runs/NAME"
        hint = f"run={word}" if config_name == "eval" and Path(word).exists() else f"{near[0]}=..." if near else usual
        return f"{word}: expected key=value.\nTry {hint}"
    return f"{word}: this value cannot be read.\nPut a text with spaces, commas or brackets in quotes: '{name}=\"...\"'"


def several_values(word: str, name: str, schema: Any) -> str:
    hints = {key: hint for key, hint, _ in dotted_keys(schema)}
    text = word.split("=", 1)[1]
    if str(hints.get(name, "")).startswith("list"):
        return f"{word}: a list is written in brackets.\nTry '{name}=[{text}]'"
    return f"{word} names several values, and one run has one.\nFor a run of each, add -m: python train.py -m {word}"
