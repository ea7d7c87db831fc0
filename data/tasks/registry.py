"""The tasks by name."""

from ..registry import Registry
from .base import Task

tasks = Registry("tasks", Task, methods=("question", "answer"), helpers=("base", "dataset", "registry"))
