from typing import Any

from data.tasks.dataset import TaskDataset
from data.windows import Selection
from longrun.base.errors import DataError
from longrun.evaluation.protocols.base import Protocol
from longrun.evaluation.token_scores import Row


class ExactMatch(Protocol):
    """A task's questions: at each length the largest that fit into it, `trials` of them."""

    keys = ("trials",)

    def __init__(self, options: Any):
        super().__init__(options)
        self.sizes: dict[int, int] = {}

    def select(self, data: Any, lengths: list[int]) -> dict[int, Selection | DataError]:
        if not isinstance(data, TaskDataset):
            raise DataError(
                f"protocol=exact_match asks a task's questions, and data={data.provenance['options']['name']} is text."
                f"\nTry protocol={data.protocol}"
            )
        found: dict[int, Selection | DataError] = {}
        for length in lengths:
            try:
                self.sizes[length], found[length] = data.test_questions(length, self.options.trials)
            except DataError as error:
                found[length] = error
        if not self.sizes:
            raise next(error for error in found.values() if isinstance(error, DataError))
        return found

    def facts(self, length: int) -> Row:
        return {"size": self.sizes[length]}
