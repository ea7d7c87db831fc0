"""What a family of checkpoints is: a model_type, how its config.json is read and written, and its table of tensors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .config_reader import Settings
from .model_spec import Outline
from .weight_map import Rule, Same

Options = dict[str, Any]


@dataclass(frozen=True)
class Family:
    """model_type: as in config.json.  architecture: the class in transformers, None if it has none.

    read(settings): the options of `model.build`.
    write(outline): config.json for a model, or for one as near to it as the family has; None: the family is only read.
    rule(name): how a tensor of ours is made, None if the family has no such tensor.
    prefix: in front of most names; published checkpoints may leave it out.
    ignored: regular expressions of stored tensors that hold no weights.
    """

    model_type: str
    architecture: str | None
    read: Callable[[Settings], Options]
    write: Callable[[Outline], Options] | None
    rule: Callable[[str], Rule | None]
    prefix: str = ""
    ignored: tuple[str, ...] = (r"rotary_emb\.inv_freq$",)


def table(rules: Mapping[str, Rule]) -> Callable[[str], Rule | None]:
    """`rule` of a table whose names have {n} where the number of the layer stands, on both sides."""

    def rule(name: str) -> Rule | None:
        first, _, rest = name.partition(".")
        number, _, inside = rest.partition(".")
        if first != "layers":
            return rules.get(name)
        found = rules.get(f"layers.{{n}}.{inside}")
        return None if found is None else found.renamed(lambda theirs: theirs.replace("{n}", number))

    return rule


def prefixed(prefix: str) -> Callable[[str], Rule | None]:
    """`rule` for our own names behind a prefix."""
    return lambda name: Same(prefix + name)
