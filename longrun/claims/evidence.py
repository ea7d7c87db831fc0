"""What the finished runs of an experiment say about its claim: differences with intervals, and right answers.

An experiment is a file in configs/experiment whose first lines say what is claimed, by whom, and what would agree.
"""

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import yaml

from longrun.base.errors import DataError
from longrun.base.paths import CONFIGS
from longrun.report.accuracy import beyond
from longrun.report.bootstrap import Difference, hierarchical_bootstrap
from longrun.report.load import Run, read_runs

RESAMPLES = 10_000


@dataclass(frozen=True)
class Experiment:
    """name: of its file.  scale: of its CPU size, such as text_cpu.  swept: what it varies, {"pe": ["rope"], ...}."""

    name: str
    claim: str
    source: str
    agrees: str
    scale: str
    swept: dict[str, list[str]]

    def scale_for(self, size: str) -> str:
        return self.scale.replace("_cpu", f"_{size}")

    @property
    def runs(self) -> int:
        return int(np.prod([len(values) for values in self.swept.values()]))


def experiments() -> list[Experiment]:
    """Every file in configs/experiment that states a claim, by name."""
    found = []
    for path in sorted((CONFIGS / "experiment").glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        stated = dict(re.findall(r"^# (Claim|Source|Agrees): (.+)$", text, re.MULTILINE))
        if "Claim" in stated:
            values = yaml.safe_load(text)
            (scale,) = (each["override /scale"] for each in values["defaults"] if "override /scale" in each)
            swept = {key: str(value).split(",") for key, value in values["hydra"]["sweeper"]["params"].items()}
            found.append(Experiment(path.stem, stated["Claim"], stated["Source"], stated["Agrees"], scale, swept))
    return found


def home(scale: str, root: Path | None = None) -> Path:
    """The folder of a scale's runs. root: instead of the one that the file names."""
    named = Path(yaml.safe_load((CONFIGS / "scale" / f"{scale}.yaml").read_text(encoding="utf-8"))["root"])
    return named if root is None else root / named.name


@dataclass
class Evidence:
    """The evaluated runs below a folder. Every method raises DataError for what was not run."""

    folder: Path
    experiment: Experiment
    seeds: set[int] = field(default_factory=set)  # that numbers so far were made of

    @cached_property
    def runs(self) -> list[Run]:
        return [run for run in read_runs([self.folder]) if run.done]

    @property
    def schemes(self) -> list[str]:
        return self.experiment.swept["pe"]

    def change(self, a: tuple, b: tuple) -> Difference:
        """NLL of A minus NLL of B over identical targets, in nats per token.

        a, b: (scheme, multiple of the training length) or (scheme, multiple, extension).
        """
        left, right = self._nll(*a), self._nll(*b)
        seeds = [seed for seed in left if seed in right]
        ids = left[seeds[0]].ids
        if any(not np.array_equal(side[s].ids, ids) for side in (left, right) for s in seeds):
            raise DataError(f"{self.folder}: {a} and {b} were not scored on the same documents")
        sums = [np.stack([side[s].nll for s in seeds])[None] for side in (left, right)]
        self.seeds |= set(seeds)
        return hierarchical_bootstrap(*sums, left[seeds[0]].tokens, RESAMPLES)[0]

    def refused(self, scheme: str, multiple: int) -> bool:
        """Whether the encoding, as it is, refused this multiple of the training length in every run."""
        rows = [
            each.refused.get(multiple * each.train_length)
            for run in self._select(scheme).values()
            for each in run.evaluations
            if (each.protocol, each.extension) == ("fixed_targets", "none")
        ]
        return bool(rows) and None not in rows

    def matches(self, task: str, schemes: list[str], plans: list[str] | None = None) -> np.ndarray:
        """Right answers (M, S, Q) of each scheme (or of one scheme under each plan) to the questions of a task that
        are longer than any in training, for the seeds that all have."""
        wanted = [(scheme, plan) for scheme in schemes for plan in plans or ["contiguous"]]
        found = [self._answers(task, scheme, plan) for scheme, plan in wanted]
        seeds = sorted(set.intersection(*(set(each) for each in found)))
        if not seeds:
            raise DataError(f"{self.folder}: no seed of {task} that all of {', '.join(map(str, wanted))} have")
        self.seeds |= set(seeds)
        return np.stack([np.stack([each[seed] for seed in seeds]) for each in found])

    def advantage(self, tasks: list[str], schemes: list[str], plans: list[str] | None = None) -> Difference:
        """Share of right answers of the first minus that of the second, over the questions of all tasks."""
        both = np.concatenate([self.matches(task, schemes, plans) for task in tasks], axis=2).astype(float)
        return hierarchical_bootstrap(both[:1], both[1:], np.ones(both.shape[2]), RESAMPLES)[0]

    def _select(self, scheme: str, plan: str = "contiguous", data: str | None = None) -> dict[int, Run]:
        found = {}
        for run in self.runs:
            config = run.config
            named = (config["positions"]["name"], config["data"]["name"] if data else None)
            if run.scheme == scheme and named == (plan, data):
                found[run.seed] = run
        if not found:
            raise DataError(f"{self.folder}: no finished run of pe={scheme} positions={plan} data={data or 'text'}")
        return found

    def _nll(self, scheme: str, multiple: int, extension: str = "none") -> dict:
        """{seed: DocumentSums} at a multiple of the training length."""
        found = {}
        for seed, run in self._select(scheme).items():
            for each in run.evaluations:
                sums = each.documents.get(multiple * each.train_length)
                if (each.protocol, each.extension) == ("fixed_targets", extension) and sums is not None:
                    found[seed] = sums
        if not found:
            raise DataError(f"{self.folder}: {scheme} was not evaluated at {multiple}L with extension={extension}")
        return found

    def _answers(self, task: str, scheme: str, plan: str) -> dict[int, np.ndarray]:
        """{seed: right answers (Q,)} beyond the training length, in the order of lengths and questions."""
        found = {}
        for seed, run in self._select(scheme, plan, task).items():
            for each in run.answers:
                if (each.protocol, each.extension) == ("exact_match", "none"):
                    found[seed] = beyond(each)
        if not found:
            raise DataError(f"{self.folder}: {scheme} was not asked the questions of {task}")
        return found
