"""Intervals and tests for the curves of one protocol, from the per-token files.

Three families, each paired over identical targets: a curve against another curve, a curve against its own windowed
control, and a longer length of a curve against its training length. Without parquet files a family is empty.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from longrun.report.bootstrap import Difference, Interval, hierarchical_bootstrap, holm, intervals, resamples_for
from longrun.report.series import Series

ALPHA = 0.05
PER_BOOTSTRAP = 64  # comparisons in one bootstrap: bounds the (resamples, comparisons) matrix


@dataclass(frozen=True)
class Comparison:
    """NLL(a) - NLL(b) at one length, over the seeds that both have; p_holm is adjusted over its whole family."""

    a: str
    b: str
    length: int
    difference: Difference
    p_holm: float
    seeds: tuple[int, ...]
    all_seeds: bool = True  # False: seeds that only one of the two has were left out

    @property
    def significant(self) -> bool:
        """The Holm-adjusted p is at most ALPHA and the interval excludes 0."""
        return self.p_holm <= ALPHA and not self.difference.low <= 0 <= self.difference.high

    def reversed(self) -> "Comparison":
        """The same comparison as b - a."""
        d = self.difference
        difference = replace(d, mean=-d.mean, low=-d.high, high=-d.low, won=1 - d.won)
        return replace(self, a=self.b, b=self.a, difference=difference)


@dataclass(frozen=True)
class _Pair:
    a: str
    b: str
    length: int
    sums: tuple[np.ndarray, np.ndarray]  # each (S, D)
    counts: np.ndarray  # (D,)
    seeds: tuple[int, ...]
    all_seeds: bool


def pairwise(curves: list[Series]) -> list[Comparison]:
    """Every pair at its training length and at the longest length that both have."""
    pairs = []
    for a, b in combinations(curves, 2):
        common = sorted(set(a.points) & set(b.points))
        if a.tokenizer != b.tokenizer or not common:
            continue
        in_domain = {a.train_length} & {b.train_length} & set(common)
        pairs += [_pair(a, length, b, length) for length in sorted(in_domain | {common[-1]})]
    return _compare(pairs)


def against_control(curves: list[Series]) -> dict[str, Comparison]:
    """Label -> the curve minus its windowed control at the longest length of both. Negative: more context helps."""
    pairs = []
    for curve in curves:
        if curve.control is None:
            continue
        common = sorted(set(curve.points) & set(curve.control.points))
        if common and common[-1] > curve.train_length:
            pairs.append(_pair(curve, common[-1], curve.control, common[-1]))
    return {each.a: each for each in _compare(pairs)}


def gaps(curves: list[Series]) -> dict[tuple[str, int], Comparison]:
    """(label, length) -> NLL(length) - NLL(training length) where both scored identical targets."""
    pairs = [
        _pair(curve, length, curve, curve.train_length)
        for curve in curves
        for length in curve.points
        if length != curve.train_length and curve.in_domain is not None
    ]
    return {(each.a, each.length): each for each in _compare(pairs)}


def nll_intervals(curves: list[Series]) -> dict[tuple[str, int], Interval]:
    """(label, length) -> interval of the NLL over documents and seeds."""
    grouped = defaultdict(list)
    for curve in curves:
        for length in curve.points:
            documents = _documents(curve, length, tuple(curve.evaluations))
            if documents is not None:
                sums, _, counts = documents
                grouped[sums.shape, counts.tobytes()].append(((curve.label, length), sums, counts))
    by_point = {}
    for members in grouped.values():
        group = intervals(np.stack([sums for _, sums, _ in members]), members[0][2])
        by_point |= {name: interval for (name, _, _), interval in zip(members, group, strict=True)}
    return by_point


def _pair(a: Series, length_a: int, b: Series, length_b: int) -> _Pair | None:
    """None if the two cannot be paired: no common seed, no parquet, different documents or different targets."""
    seeds = tuple(seed for seed in a.evaluations if seed in b.evaluations)
    one, two = (_documents(curve, n, seeds) for curve, n in ((a, length_a), (b, length_b)))
    if one is None or two is None or not np.array_equal(one[1], two[1]) or not np.array_equal(one[2], two[2]):
        return None
    all_seeds = set(seeds) == set(a.evaluations) == set(b.evaluations)
    return _Pair(a.label, b.label, length_a, (one[0], two[0]), one[2], seeds, all_seeds)


def _documents(curve: Series, length: int, seeds: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """NLL sums (S, D), document ids (D,) and token counts (D,) of the given seeds; None if they do not fit together."""
    by_seed = [curve.evaluations[seed].documents.get(length) for seed in seeds]
    sums = [each for each in by_seed if each is not None]
    if not sums or len(sums) < len(by_seed):
        return None
    first = sums[0]
    if not all(np.isfinite(each.nll).all() for each in sums):
        return None  # a diverged model has no interval; its NaN would also count as False in every "<= 0"
    if any(not np.array_equal(s.ids, first.ids) or not np.array_equal(s.tokens, first.tokens) for s in sums):
        return None
    return np.stack([each.nll for each in sums]), first.ids, first.tokens


def _compare(candidates: list[_Pair | None]) -> list[Comparison]:
    """Bootstrap all pairs; pairs over the same documents share one bootstrap. Holm's correction covers all of them."""
    pairs = [pair for pair in candidates if pair is not None]
    grouped = defaultdict(list)
    for index, pair in enumerate(pairs):
        grouped[pair.sums[0].shape, pair.counts.tobytes()].append(index)
    differences: dict[int, Difference] = {}
    batches = [group[i : i + PER_BOOTSTRAP] for group in grouped.values() for i in range(0, len(group), PER_BOOTSTRAP)]
    for batch in batches:
        a, b = (np.stack([pairs[i].sums[side] for i in batch]) for side in (0, 1))
        counts = pairs[batch[0]].counts
        bootstrapped = hierarchical_bootstrap(a, b, counts, resamples_for(len(pairs), len(counts)))
        differences |= dict(zip(batch, bootstrapped, strict=True))
    adjusted = holm(np.array([differences[i].p for i in range(len(pairs))])).tolist()
    return [
        Comparison(pair.a, pair.b, pair.length, differences[i], adjusted[i], pair.seeds, pair.all_seeds)
        for i, pair in enumerate(pairs)
    ]
