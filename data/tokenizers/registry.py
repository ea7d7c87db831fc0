"""The tokenizers that data.tokenizer can name, and their options."""

from dataclasses import fields
from typing import Any

import yaml

from longrun.base.errors import DataError
from longrun.base.paths import CONFIGS

from ..options import CorpusOptions, check_yaml, names
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


def complete_tokenizer(choice: Any) -> Any:
    """Add the values of configs/tokenizer/<name>.yaml to data.tokenizer. A choice without own options is its name.

    Own options are those that are not options of every corpus. Raises DataError if the file, the choice and the class
    of the tokenizer disagree.
    """
    name = trainer_name(choice)
    if name not in tokenizers:
        if isinstance(choice, dict):
            raise DataError(
                f"data.tokenizer.name={name}: there is no data/tokenizers/{name}.py.\n{tokenizers.suggestion(name)}"
            )
        return choice
    trainer = tokenizers.load(name)
    own = [item for item in fields(trainer) if item.name not in names(CorpusOptions)]
    changes = {key: value for key, value in choice.items() if key != "name"} if isinstance(choice, dict) else {}
    for key in changes.keys() - {item.name for item in own}:
        listed = ", ".join(item.name for item in own) or "none"
        raise DataError(f"data.tokenizer.{key} is not an option of {name}.\nIts options: {listed}.")
    path = CONFIGS / "tokenizer" / f"{name}.yaml"
    values = (yaml.safe_load(path.read_text()) or {}) if path.is_file() else {}
    file, other = f"configs/tokenizer/{name}.yaml", values.pop("name", name)
    if other != name:
        raise DataError(f"{file} has name: {other}, and its file name is {name}.\nWrite name: {name}")
    where = f"class {trainer.__name__} in data/tokenizers/{name}.py"
    check_yaml(file, values, values | changes, own, where)
    return {"name": name, **values, **changes} if own else name


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
