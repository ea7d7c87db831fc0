"""Options of the `data` config group: their declaration, and the keys that text sources share."""

import json
import types
from collections.abc import Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, get_args, get_type_hints

from longrun.base.errors import DataError
from longrun.base.suggest import suggest


def option(doc: str, default: Any = MISSING, **rules: Any) -> Any:
    """Declare an option that is set with data.NAME=VALUE. Rules: choices, minimum, maximum, example.

    default: only for an option that is added later. It is marked `later`: at its default it is not part of a run's
    fingerprint, so existing runs keep their names. All other values are in configs/data/*.yaml.
    """
    later = {} if default is MISSING else {"later": True}
    return field(default=default, metadata={"doc": doc, **later, **rules})


@dataclass(frozen=True, kw_only=True)
class CorpusOptions:
    """Options that every text source has."""

    name: str = option("name of the corpus in folder names and tables", example="stdlib")
    source: str = option("text source: the name of a file in data/sources", example="text")
    documents: int | None = option("number of documents to read, the first ones; null = all", minimum=1, example=10000)
    tokenizer: str | dict[str, Any] | None = option(
        "bpe, byte, character (data/tokenizers), or a folder with a tokenizer.json; tokens: the one that wrote them",
        example="bpe",
    )
    vocab_size: int | None = option("vocabulary size (bpe, or tokens without tokenizer)", minimum=2, example=2048)
    valid_fraction: float = option("fraction of documents for validation", minimum=0.0, maximum=1.0, example=0.05)
    test_fraction: float = option("fraction of documents for evaluation", minimum=0.0, maximum=1.0, example=0.1)
    cache: str | None = option("folder for tokenized corpora; null = the user's cache folder", example="/tmp/longrun")


@dataclass(frozen=True, kw_only=True)
class TextOptions(CorpusOptions):
    """Options of the sources that come with Longrun. They share one set of keys, which is part of each run's name.

    A new source declares its own options instead, in a subclass of CorpusOptions beside its class.
    """

    path: str | None = option(
        "file or folder (code, text, jsonl, parquet, tokens), or OWNER/NAME (hub)", example="notes.txt"
    )
    subset: str | None = option("hub: configuration of the data set; null = its default", example="en")
    split: str | None = option("hub: split of the data set; ours are cut from it", example="train")
    text_field: str = option("jsonl, parquet, hub: name of the field that holds the text", example="text")
    separator: str | None = option("text: regular expression that starts a document; null = one document per file")
    pattern: str | None = option(
        "glob pattern of the files in a folder; code: null = those of programming languages", example="**/*.txt"
    )
    bad_lines: str = option("jsonl: treatment of a line that is not a row", "refuse", choices=("refuse", "skip"))
    invalid_utf8: str = option("treatment of bytes that are not UTF-8", "replace", choices=("replace", "refuse"))
    token_type: str = option("tokens: number format of an id", "uint16", choices=("uint16", "uint32"))
    separator_id: int | None = option(
        "tokens: id between documents; null = that of the tokenizer", None, minimum=0, example=50256
    )


def names(options_class: type) -> list[str]:
    return [item.name for item in fields(options_class)]


def own_names(options_class: type) -> list[str]:
    """Options that a source declares itself, beyond those that the sources of Longrun share."""
    return [name for name in names(options_class) if name not in names(TextOptions)]


def required_names(options_class: type) -> list[str]:
    """Options that have no default and cannot be null."""
    hints = get_type_hints(options_class)
    return [
        item.name
        for item in fields(options_class)
        if item.default is MISSING and types.NoneType not in get_args(hints[item.name])
    ]


def check_keys(options: dict[str, Any], options_class: type) -> None:
    """Raise DataError for a key that is not an option, and for a value that is not one of its choices."""
    rules = {item.name: item.metadata for item in fields(options_class)}
    for key, value in options.items():
        if key not in rules:
            near = suggest(str(key), rules)
            hint = f"Did you mean data.{near[0]}?" if near else f"Options: {', '.join(rules)}."
            raise DataError(f"data.{key}={value!r} is not an option.\n{hint}")
        choices = rules[key].get("choices")
        if choices and value is not None and value not in choices:
            raise DataError(f"data.{key}={value} is unknown.\nChoose one of {', '.join(choices)}.")


def check_yaml(
    file: str, values: dict[str, Any], options: dict[str, Any], declared: Sequence[Field], where: str
) -> None:
    """Raise DataError if a YAML file sets a key that is not declared, or if a declared option is set nowhere.

    values: content of the file.  options: all options, the command line included.  declared: the options of the class
    `where`.
    """
    declared_names = [item.name for item in declared]
    for key in values:
        if key not in declared_names:
            raise DataError(
                f"{file} sets {key}, which {where} does not declare.\n"
                f"It declares {', '.join(declared_names) or 'no options'}: remove {key}, or declare it as a field."
            )
    for item in declared:
        if item.name not in options and item.default is MISSING:
            raise DataError(
                f"{file} does not set {item.name}, an option of {where}.\n"
                f"Add a line such as {item.name}: {json.dumps(item.metadata.get('example', '...'))}"
            )
