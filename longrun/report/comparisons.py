"""Intervals and tests for the lines of one protocol, all from the per-token files.

Three families, each paired over identical targets: a line against another line, a line against its own windowed
control, a line's long length against its own training length. Without parquet files a family is empty.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from longrun.report.bootstrap import Difference, Interval, hierarchical_bootstrap, holm, intervals, resamples_for
from longrun.report.series import Line

ALPHA = 0.05
TOGETHER = 64  # comparisons in one bootstrap: bounds the (resamples, comparisons) matrix


@dataclass(frozen=True)
class Comparison:
    """NLL(a) - NLL(b) at one length, over the seeds both have; p_holm is adjusted over its whole family."""

    a: str
    b: str
    length: int
    difference: Difference
    p_holm: float
    seeds: tuple[int, ...]
    all_seeds: bool = True  # False: one of the two has seeds that the other lacks, and they were left out

    @property
    def significant(self) -> bool:
        """Both ways of looking agree: Holm-adjusted p and the interval."""
        return self.p_holm <= ALPHA and not self.difference.low <= 0 <= self.difference.high

    def reversed(self) -> "Comparison":
        """The same comparison read as b - a."""
        d = self.difference
        turned = replace(d, mean=-d.mean, low=-d.high, high=-d.low, won=1 - d.won)
        return replace(self, a=self.b, b=self.a, difference=turned)


@dataclass(frozen=True)
class _Job:
    a: str
    b: str
    length: int
    sums: tuple[np.ndarray, np.ndarray]  # each (S, D)
    counts: np.ndarray  # (D,)
    seeds: tuple[int, ...]
    all_seeds: bool


def pairwise(lines: list[Line]) -> list[Comparison]:
    """Every pair at its training length and at the longest length both serve."""
    jobs = []
    for a, b in combinations(lines, 2):
        common = sorted(set(a.points) & set(b.points))
        if a.tokenizer != b.tokenizer or not common:
            continue
        home = {a.train_length} & {b.train_length} & set(common)
        for length in sorted(home | {common[-1]}):
            job = _job(a, length, b, length)
            if job is not None:
                jobs.append(job)
    return _compared(jobs)


def against_control(lines: list[Line]) -> dict[str, Comparison]:
    """Line label -> the line minus its windowed control at the longest length both have. Negative: context is used."""
    jobs = []
    for line in lines:
        common = sorted(set(line.points) & set(line.control.points)) if line.control else []
        if common and common[-1] > line.train_length:
            jobs.append(_job(line, common[-1], line.control, common[-1]))
    return {each.a: each for each in _compared([job for job in jobs if job is not None])}


def gaps(lines: list[Line]) -> dict[tuple[str, int], Comparison]:
    """(label, length) -> NLL(length) - NLL(training length) where both scored the very same targets."""
    jobs = [
        _job(line, length, line, line.train_length)
        for line in lines
        for length in line.points
        if length != line.train_length and line.home is not None
    ]
    return {(each.a, each.length): each for each in _compared([job for job in jobs if job is not None])}


def nll_intervals(lines: list[Line]) -> dict[tuple[str, int], Interval]:
    """(label, length) -> interval of the NLL itself over documents (and seeds): what these texts leave open."""
    grouped = defaultdict(list)
    for line in lines:
        for length in line.points:
            documents = _documents(line, length, tuple(line.evaluations))
            if documents is not None:
                sums, _, counts = documents
                grouped[sums.shape, counts.tobytes()].append(((line.label, length), sums, counts))
    found = {}
    for members in grouped.values():
        results = intervals(np.stack([sums for _, sums, _ in members]), members[0][2])
        found |= {name: result for (name, _, _), result in zip(members, results, strict=True)}
    return found


def _job(a: Line, length_a: int, b: Line, length_b: int) -> _Job | None:
    """None where the two cannot be paired: no common seed, no parquet, other documents or other targets."""
    seeds = tuple(seed for seed in a.evaluations if seed in b.evaluations)
    one, two = (_documents(line, n, seeds) for line, n in ((a, length_a), (b, length_b)))
    if one is None or two is None or not np.array_equal(one[1], two[1]) or not np.array_equal(one[2], two[2]):
        return None
    everywhere = set(seeds) == set(a.evaluations) == set(b.evaluations)
    return _Job(a.label, b.label, length_a, (one[0], two[0]), one[2], seeds, everywhere)


def _documents(line: Line, length: int, seeds: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """NLL sums (S, D), document ids (D,) and token counts (D,) of the given seeds, or None."""
    found = [line.evaluations[seed].documents.get(length) for seed in seeds]
    if not found or any(sums is None for sums in found):
        return None
    first = found[0]
    if not all(np.isfinite(sums.nll).all() for sums in found):
        return None  # a diverged model has no interval; its NaN would also pass every "<= 0" count as False
    if any(not np.array_equal(s.ids, first.ids) or not np.array_equal(s.tokens, first.tokens) for s in found):
        return None
    return np.stack([sums.nll for sums in found]), first.ids, first.tokens


def _compared(jobs: list[_Job]) -> list[Comparison]:
    """Jobs over the same documents share one bootstrap; Holm runs over all of them."""
    grouped = defaultdict(list)
    for index, job in enumerate(jobs):
        grouped[job.sums[0].shape, job.counts.tobytes()].append(index)
    results: dict[int, Difference] = {}
    parts = [group[start : start + TOGETHER] for group in grouped.values() for start in range(0, len(group), TOGETHER)]
    for part in parts:
        a, b = (np.stack([jobs[i].sums[side] for i in part]) for side in (0, 1))
        counts = jobs[part[0]].counts
        differences = hierarchical_bootstrap(a, b, counts, resamples_for(len(jobs), len(counts)))
        results |= dict(zip(part, differences, strict=True))
    adjusted = holm(np.array([results[i].p for i in range(len(jobs))])).tolist()
    return [
        Comparison(job.a, job.b, job.length, results[i], adjusted[i], job.seeds, job.all_seeds)
        for i, job in enumerate(jobs)
    ]
