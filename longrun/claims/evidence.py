"""Evidence of an experiment's finished runs: differences with intervals, and accuracies.

An experiment with a claim is a file in configs/experiment whose first lines state the claim, its source and the result
that would agree with it.
"""

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import yaml

from longrun.base.errors import DataError
from longrun.base.paths import CONFIGS
from longrun.report.accuracy import correct_beyond
from longrun.report.bootstrap import Difference, hierarchical_bootstrap
from longrun.report.load import DocumentSums, Run, read_runs

RESAMPLES = 10_000


@dataclass(frozen=True)
class Experiment:
    """A claim.  name: of its file.  scale: its CPU size, such as text_cpu.  swept: axes, {"pe": ["rope"], ...}."""

    name: str
    claim: str
    source: str
    agrees: str
    scale: str
    swept: dict[str, list[str]]

    def scale_for(self, size: str) -> str:
        return self.scale.replace("_cpu", f"_{size}")


def experiments() -> list[Experiment]:
    """Every file in configs/experiment that states a claim, by name."""
    with_claim = []
    for path in sorted((CONFIGS / "experiment").glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        header = dict(re.findall(r"^# (Claim|Source|Agrees): (.+)$", text, re.MULTILINE))
        if "Claim" in header:
            values = yaml.safe_load(text)
            (scale,) = (each["override /scale"] for each in values["defaults"] if "override /scale" in each)
            swept = {key: str(value).split(",") for key, value in values["hydra"]["sweeper"]["params"].items()}
            with_claim.append(Experiment(path.stem, header["Claim"], header["Source"], header["Agrees"], scale, swept))
    return with_claim


def runs_folder(scale: str, root: Path | None = None) -> Path:
    """The folder of a scale's runs.  root: parent folder in place of the configured one."""
    named = Path(yaml.safe_load((CONFIGS / "scale" / f"{scale}.yaml").read_text(encoding="utf-8"))["root"])
    return named if root is None else root / named.name


@dataclass
class Evidence:
    """The evaluated runs below a folder. Every method raises DataError if the runs that it needs are missing."""

    folder: Path
    experiment: Experiment
    seeds: set[int] = field(default_factory=set)  # seeds used by the numbers so far

    @cached_property
    def runs(self) -> list[Run]:
        return [run for run in read_runs([self.folder]) if run.done]

    @property
    def schemes(self) -> list[str]:
        return self.experiment.swept["pe"]

    def nll_difference(self, a: tuple, b: tuple) -> Difference:
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
        return hierarchical_bootstrap(sums[0], sums[1], left[seeds[0]].tokens, RESAMPLES)[0]

    def refused(self, scheme: str, multiple: int) -> bool:
        """True if the unextended encoding refused this multiple of the training length in every run."""
        reasons = [
            each.refused.get(multiple * each.train_length)
            for run in self._select(scheme).values()
            for each in run.evaluations
            if (each.protocol, each.extension) == ("fixed_targets", "none")
        ]
        return bool(reasons) and None not in reasons

    def matches(self, task: str, schemes: list[str], plans: list[str] | None = None) -> np.ndarray:
        """Correctness (M, S, Q) on the questions of a task that are longer than any in training.

        M: schemes, or position plans of one scheme; S: seeds common to all of them.
        """
        members = [(scheme, plan) for scheme in schemes for plan in plans or ["contiguous"]]
        by_member = [self._correct(task, scheme, plan) for scheme, plan in members]
        seeds = sorted(set.intersection(*(set(each) for each in by_member)))
        if not seeds:
            raise DataError(f"{self.folder}: no seed of {task} is common to {', '.join(map(str, members))}")
        self.seeds |= set(seeds)
        return np.stack([np.stack([each[seed] for seed in seeds]) for each in by_member])

    def accuracy_difference(self, tasks: list[str], schemes: list[str], plans: list[str] | None = None) -> Difference:
        """Accuracy of the first member minus that of the second, over the questions of all tasks."""
        both = np.concatenate([self.matches(task, schemes, plans) for task in tasks], axis=2).astype(float)
        return hierarchical_bootstrap(both[:1], both[1:], np.ones(both.shape[2]), RESAMPLES)[0]

    def _select(self, scheme: str, plan: str = "contiguous", data: str | None = None) -> dict[int, Run]:
        """Seed -> run. data: name of a task; None: runs on text."""
        selected = {}
        for run in self.runs:
            names = (run.config["positions"]["name"], run.config["data"]["name"] if data else None)
            if run.scheme == scheme and names == (plan, data):
                selected[run.seed] = run
        if not selected:
            raise DataError(f"{self.folder}: no finished run of pe={scheme} positions={plan} data={data or 'text'}")
        return selected

    def _nll(self, scheme: str, multiple: int, extension: str = "none") -> dict[int, DocumentSums]:
        """Seed -> sums at a multiple of the training length."""
        by_seed = {}
        for seed, run in self._select(scheme).items():
            for each in run.evaluations:
                sums = each.documents.get(multiple * each.train_length)
                if (each.protocol, each.extension) == ("fixed_targets", extension) and sums is not None:
                    by_seed[seed] = sums
        if not by_seed:
            raise DataError(f"{self.folder}: {scheme} was not evaluated at {multiple}L with extension={extension}")
        return by_seed

    def _correct(self, task: str, scheme: str, plan: str) -> dict[int, np.ndarray]:
        """Seed -> correctness (Q,) beyond the training length, in the order of lengths and questions."""
        by_seed = {}
        for seed, run in self._select(scheme, plan, task).items():
            for each in run.task_evaluations:
                if (each.protocol, each.extension) == ("exact_match", "none"):
                    by_seed[seed] = correct_beyond(each)
        if not by_seed:
            raise DataError(f"{self.folder}: {scheme} was not evaluated on the questions of {task}")
        return by_seed
