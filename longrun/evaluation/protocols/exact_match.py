from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from data.tasks.dataset import TaskDataset
from data.windows import Selection
from longrun.base.errors import DataError
from longrun.evaluation.protocols.base import QuestionProtocol, Selections
from longrun.evaluation.token_scores import Row


@dataclass(frozen=True)
class ExactMatch(QuestionProtocol):
    """The questions of a task: at each length the largest that fit into it."""

    def select(self, data: Any, lengths: list[int]) -> Selections:
        if not isinstance(data, TaskDataset):
            raise DataError(
                f"protocol=exact_match asks a task's questions, and data={data.provenance['options']['name']} is text."
                f"\nTry protocol={data.protocol}"
            )
        selections: Selections = {}
        for length in lengths:
            try:
                size, selection = data.test_questions(length, self.trials)
                selections[length] = replace(selection, labels={"size": np.full(len(selection.windows), size)})
            except DataError as error:
                selections[length] = error
        errors = [each for each in selections.values() if isinstance(each, DataError)]
        if len(errors) == len(lengths):
            raise errors[0]
        return selections

    def length_facts(self, selection: Selection) -> Row:
        return {"size": int(selection.labels["size"][0])}
