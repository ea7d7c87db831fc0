"""The tokenizers that data.tokenizer can name, and their options."""

from dataclasses import fields
from typing import Any

import yaml

from longrun.base.errors import DataError
from longrun.base.paths import CONFIGS

from ..options import CorpusOptions, names
from ..registry import Registry
from .base import TokenizerTrainer

tokenizers = Registry(
    "tokenizers",
    TokenizerTrainer,
    methods=("train",),
    helpers=("base", "registry", "load", "alphabet", "hf", "ids"),
)


def trainer_name(choice: Any) -> Any:
    """Return the name in data.tokenizer, which is NAME, FOLDER, or {name: NAME, OPTION: VALUE}."""
    return choice.get("name") if isinstance(choice, dict) else choice


def own_options(trainer: type[TokenizerTrainer]) -> list[str]:
    """Options of a tokenizer that are not options of every corpus."""
    return [item.name for item in fields(trainer) if item.name not in names(CorpusOptions)]


def complete_tokenizer(choice: Any) -> Any:
    """Add the values of configs/tokenizer/<name>.yaml to data.tokenizer. A choice without own options is its name.

    Raises DataError if the file, the choice and the class of the tokenizer disagree.
    """
    name = trainer_name(choice)
    if name not in tokenizers:
        if isinstance(choice, dict):
            raise DataError(
                f"data.tokenizer.name={name}: there is no data/tokenizers/{name}.py.\n{tokenizers.suggestion(name)}"
            )
        return choice
    trainer = tokenizers.load(name)
    options = own_options(trainer)
    changes = {key: value for key, value in choice.items() if key != "name"} if isinstance(choice, dict) else {}
    for key in changes:
        if key not in options:
            listed = ", ".join(options) or "none"
            raise DataError(f"data.tokenizer.{key} is not an option of {name}.\nIts options: {listed}.")
    values = _yaml_values(name, trainer, options) | changes
    for item in fields(trainer):
        if item.name in options and item.name not in values:
            raise DataError(
                f"configs/tokenizer/{name}.yaml does not set {item.name}, an option of class {trainer.__name__} in "
                f"data/tokenizers/{name}.py.\nAdd a line such as {item.name}: {item.metadata.get('example', '...')}"
            )
    return {"name": name, **values} if options else name


def _yaml_values(name: str, trainer: type[TokenizerTrainer], options: list[str]) -> dict[str, Any]:
    """Read the YAML file of a tokenizer, {} if there is none. Raises DataError for a key that is not an option."""
    path = CONFIGS / "tokenizer" / f"{name}.yaml"
    values = (yaml.safe_load(path.read_text()) or {}) if path.is_file() else {}
    other = values.pop("name", name)
    if other != name:
        raise DataError(
            f"configs/tokenizer/{name}.yaml has name: {other}, and its file name is {name}.\nWrite name: {name}"
        )
    for key in values:
        if key not in options:
            raise DataError(
                f"configs/tokenizer/{name}.yaml sets {key}, which class {trainer.__name__} in "
                f"data/tokenizers/{name}.py does not declare.\nIt declares: {', '.join(options) or 'no options'}."
            )
    return values


def create_trainer(options: dict[str, Any]) -> TokenizerTrainer:
    """Create the trainer that data.tokenizer names, with its options from there and from the other data options.

    Raises DataError.
    """
    choice = complete_tokenizer(options["tokenizer"])
    trainer = tokenizers.load(trainer_name(choice))
    values = options | (choice if isinstance(choice, dict) else {})
    for item in fields(trainer):
        if values.get(item.name) is None:
            raise DataError(
                f"data.{item.name} is missing: data.tokenizer={trainer_name(choice)} needs it.\n"
                f"Set it, for example data.{item.name}={item.metadata.get('example', '...')}."
            )
    result = trainer(**{item.name: values[item.name] for item in fields(trainer)})
    result.check()
    return result


def recipe_name(options: dict[str, Any]) -> str:
    """Name the tokenizer in the cache key of a corpus: `byte`, `bpe-2048`."""
    trainer = create_trainer(options)
    values = [str(getattr(trainer, item.name)) for item in fields(trainer)]
    return "-".join([trainer_name(options["tokenizer"]), *values])
