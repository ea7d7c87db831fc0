"""The tasks by name: data/tasks/<name>.py holds class <Name>."""

import importlib
from pathlib import Path
from typing import Any

from .base import Task

_NOT_TASKS = ("__init__", "base", "questions", "registry")


def names() -> list[str]:
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in _NOT_TASKS)


def kind(name: str) -> type[Task]:
    """The class of a task: a dataclass whose fields are its options."""
    assert name in names(), name
    return getattr(importlib.import_module(f".{name}", __package__), "".join(map(str.capitalize, name.split("_"))))


def create(options: dict[str, Any]) -> Task:
    """The task that checked `options` (the `data` config group) describe."""
    return kind(options["source"])(**options)
