"""Definition of a family of checkpoints: model_type, reading and writing of config.json, and the map of its tensors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .config_reader import HFConfig
from .model_spec import ModelSpec
from .weight_map import Rename, Rule

Options = dict[str, Any]


@dataclass(frozen=True)
class Family:
    """model_type: as in config.json.  architecture: the class in transformers, None if there is none.

    read(config): the options of `model.build`.
    write(spec): config.json of the model, or of the nearest one that the family has; None: the family is only read.
    rule(name): the rule for one of our tensors, None if the family has no such tensor.
    prefix: first part of most names; published checkpoints may leave it out.
    ignored: regular expressions of stored tensors that are not weights.
    """

    model_type: str
    architecture: str | None
    read: Callable[[HFConfig], Options]
    write: Callable[[ModelSpec], Options] | None
    rule: Callable[[str], Rule | None]
    prefix: str = ""
    ignored: tuple[str, ...] = (r"rotary_emb\.inv_freq$",)


def table(rules: Mapping[str, Rule]) -> Callable[[str], Rule | None]:
    """The `rule` of a table. Its names have {n} in place of the index of the layer, on both sides."""

    def rule(name: str) -> Rule | None:
        first, _, rest = name.partition(".")
        number, _, inside = rest.partition(".")
        if first != "layers":
            return rules.get(name)
        template = rules.get(f"layers.{{n}}.{inside}")
        return None if template is None else template.renamed(lambda theirs: theirs.replace("{n}", number))

    return rule


def prefixed(prefix: str) -> Callable[[str], Rule | None]:
    """The `rule` for our own names behind a prefix."""
    return lambda name: Rename(prefix + name)
