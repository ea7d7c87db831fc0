"""Plug-ins of a model whose options are all resolved: replaces `model/registry.py`, without YAML files and checks."""

import importlib
from typing import Any

Part = str | dict
Options = dict[str, Any]
FEED_FORWARD: dict[str, Any] = {}  # the options of the feed-forward block, filled in when the folder is written


class Registry:
    """The plug-ins of one group (`pe`, `positions`, `extension`), each in a module beside this one."""

    def __init__(self, group: str, noun: str, **ignored: Any):
        self.group = group

    def names(self) -> list[str]:
        return []

    def options(self, name: str) -> dict[str, Any]:
        raise KeyError(name)

    def resolve(self, given: Any) -> dict[str, Any]:
        return FEED_FORWARD if isinstance(given, str) else given

    def load(self, scheme: str) -> type:
        module = importlib.import_module(f".longrun_{self.group}_{scheme}", __package__)
        return getattr(module, "".join(word.capitalize() for word in scheme.split("_")))

    def create(self, shape: Any, given: dict[str, Any]) -> Any:
        return self.load(given["scheme"])(shape, **arguments(given))


def arguments(resolved: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in resolved.items() if key not in ("name", "scheme")}
