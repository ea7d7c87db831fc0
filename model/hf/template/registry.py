"""Plug-ins of a model whose options are all settled: what `model/registry.py` is where YAML files and choices are."""

import importlib
import inspect
from typing import Any

Part = str | dict
FEED_FORWARD: dict[str, Any] = {}  # the options of the feed-forward block, filled in when the folder is written


class Registry:
    """The plug-ins of one group (`pe`, `positions`, `extension`), each in a module beside this one."""

    def __init__(self, group: str, what: str):
        self.group = group

    def names(self) -> list[str]:
        return []

    def options(self, name: str) -> dict[str, Any]:
        raise KeyError(name)

    def resolve(self, given: Any) -> dict[str, Any]:
        return FEED_FORWARD if isinstance(given, str) else given

    def signature(self, scheme: str) -> dict[str, Any]:
        """Keyword options of the constructor."""
        parameters = inspect.signature(self.load(scheme).__init__).parameters.values()
        return {p.name: p.annotation for p in parameters if p.kind is p.KEYWORD_ONLY}

    def load(self, scheme: str) -> type:
        module = importlib.import_module(f".longrun_{self.group}_{scheme}", __package__)
        return getattr(module, "".join(word.capitalize() for word in scheme.split("_")))

    def create(self, shape: Any, given: dict[str, Any]) -> Any:
        options = {key: given[key] for key in self.signature(given["scheme"])}
        return self.load(given["scheme"])(shape, **options)
