"""Statistics of paired evaluations: document bootstrap, seed-and-document bootstrap, Holm, Wilson, rankings.

Legend: P comparisons, S seeds, D documents, R resamples, M schemes, Q questions. A document enters as two numbers, the
sum of its NLLs and the number of its scored tokens, which are resampled together: a mean is sum over tokens / number
of tokens, never a mean of document means. Depends on numpy only.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

RESAMPLES = 10_000
MOST_RESAMPLES = 40_000
SEED = 0
LEVEL = 0.95
BLOCK = 1 << 22  # entries of the (resamples, documents) weight matrix held at a time


@dataclass(frozen=True)
class Interval:
    """A token-weighted mean with its percentile interval and a two-sided bootstrap p-value for "the mean is 0"."""

    mean: float
    low: float
    high: float
    p: float
    seeds: int
    documents: int
    tokens: int
    resamples: int


@dataclass(frozen=True)
class Difference(Interval):
    """NLL of A minus NLL of B in nats per token: negative means that A predicts better."""

    won: float  # share of documents with a lower NLL under A; a tie counts one half


def token_weighted_mean(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Sums (..., S, D) of NLL over tokens, counts (D,) of tokens -> mean per token (...)."""
    return sums.sum(axis=(-2, -1)) / (sums.shape[-2] * counts.sum())


def bootstrap_means(sums: np.ndarray, counts: np.ndarray, resamples: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """Means (R, P) of `sums` (P, S, D) over `counts` (D,) for seeds and documents drawn with replacement.

    All comparisons share the draws. The documents are the same texts under every seed (crossed, not nested), so a
    resample draws one set of documents for all its seeds. Drawing documents per seed would count one text S times as
    independent evidence and give intervals that are too narrow (Owen 2007, "The pigeonhole bootstrap").
    """
    comparisons, seeds, documents = sums.shape
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, comparisons))
    block = max(1, BLOCK // documents)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        seed_weights = _draws(rng, rows, seeds)
        document_weights = _draws(rng, rows, documents)
        totals = np.zeros((rows, comparisons))
        for s in range(seeds):
            totals += seed_weights[:, s, None] * (document_weights @ sums[:, s].T)
        means[start : start + rows] = totals / (seeds * (document_weights @ counts))[:, None]
    return means


def _draws(rng: np.random.Generator, rows: int, n: int) -> np.ndarray:
    """Number of times each of n units is drawn in n draws with replacement: (rows, n) float64."""
    if n == 1:
        return np.ones((rows, 1))
    cells = rng.integers(0, n, size=(rows, n)) + n * np.arange(rows)[:, None]
    return np.bincount(cells.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)


def intervals(
    sums: np.ndarray, counts: np.ndarray, resamples: int = RESAMPLES, seed: int = SEED, level: float = LEVEL
) -> list[Interval]:
    """Intervals of the P token-weighted means of `sums` (P, S, D) over `counts` (D,)."""
    sums, counts = _checked(sums, counts, resamples)
    return [Interval(**fields) for fields in _summaries(sums, counts, resamples, seed, level)]


def hierarchical_bootstrap(
    a: np.ndarray,
    b: np.ndarray,
    counts: np.ndarray,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    level: float = LEVEL,
) -> list[Difference]:
    """Paired differences A - B over identical targets; seeds and documents are resampled.

    a, b: NLL sums (P, S, D), the same seeds and documents in the same order; counts (D,) tokens per document.
    Raises ValueError if the shapes do not pair, a document has no token or there are fewer than 1,000 resamples.
    """
    if np.shape(a) != np.shape(b):
        raise ValueError(f"not paired: A has (comparisons, seeds, documents) {np.shape(a)}, B has {np.shape(b)}")
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    difference, counts = _checked(difference, counts, resamples)
    per_document = difference.sum(axis=1)
    won = (per_document < 0).mean(axis=1) + 0.5 * (per_document == 0).mean(axis=1)
    fields = _summaries(difference, counts, resamples, seed, level)
    return [Difference(**each, won=float(share)) for each, share in zip(fields, won, strict=True)]


def _checked(sums: np.ndarray, counts: np.ndarray, resamples: int) -> tuple[np.ndarray, np.ndarray]:
    sums, counts = np.asarray(sums, np.float64), np.asarray(counts, np.float64)
    if sums.ndim != 3 or counts.shape != sums.shape[2:] or not len(counts):
        raise ValueError(f"sums {sums.shape} are not (comparisons, seeds, documents) of counts {counts.shape}")
    if (counts <= 0).any():
        raise ValueError("a document without scored tokens cannot be resampled; leave it out")
    if resamples < 1000:
        raise ValueError(f"resamples={resamples}: an interval needs at least 1,000")
    return sums, counts


def _summaries(sums: np.ndarray, counts: np.ndarray, resamples: int, seed: int, level: float) -> list[dict]:
    means = token_weighted_mean(sums, counts)
    draws = bootstrap_means(sums, counts, resamples, seed)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    below, above = (draws <= 0).sum(axis=0), (draws >= 0).sum(axis=0)
    p = np.minimum(1.0, 2 * (np.minimum(below, above) + 1) / (resamples + 1))
    shared = {"seeds": sums.shape[1], "documents": sums.shape[2], "tokens": int(counts.sum()), "resamples": resamples}
    columns = zip(means.tolist(), low.tolist(), high.tolist(), p.tolist(), strict=True)
    return [{"mean": m, "low": lo, "high": hi, "p": q, **shared} for m, lo, hi, q in columns]


def resamples_for(tests: int, documents: int) -> int:
    """Resamples with which Holm over `tests` tests can still reject: its smallest p is tests * 2 / (R + 1), about 0.01.

    Never fewer than RESAMPLES, never more than MOST_RESAMPLES or than 200 million draws of documents.
    """
    return max(RESAMPLES, min(MOST_RESAMPLES, 200 * tests, 200_000_000 // documents))


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down correction: adjusted p-values in the given order. Reject where adjusted <= alpha."""
    p = np.asarray(p, np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


@dataclass(frozen=True)
class Ranking:
    """Mean reciprocal rank of one scheme over the tasks, with its percentile interval.

    `first`, `last`: share of resamples in which it alone has the highest (lowest) mean reciprocal rank.
    """

    mrr: float
    low: float
    high: float
    first: float
    last: float


def reciprocal_ranks(scores: np.ndarray) -> np.ndarray:
    """1 / rank of each scheme, with rank 1 for the highest score: (M, ...) -> (M, ...).

    Schemes with the same score share the mean of their ranks: five equal schemes are all third.
    """
    above = (scores[None] > scores[:, None]).sum(axis=1)
    equal = (scores[None] == scores[:, None]).sum(axis=1)  # itself among them
    return 1 / (1 + above + (equal - 1) / 2)


def mean_reciprocal_rank(
    matches: list[np.ndarray], resamples: int = RESAMPLES, seed: int = SEED, level: float = LEVEL
) -> list[Ranking]:
    """Schemes ranked by their accuracy on each task, 1 / rank averaged over tasks (2305.19466).

    matches: per task (M, S, Q) correctness, 0 or 1, of M schemes with S seeds on the same Q questions.
    Seeds and questions are resampled per task; tasks are not resampled.
    Raises ValueError if the shapes do not fit together.
    """
    if not matches or len({task.shape[0] for task in matches}) != 1 or any(task.ndim != 3 for task in matches):
        raise ValueError(
            f"matches {[task.shape for task in matches]} are not (schemes, seeds, questions) for each task"
        )
    point = np.mean([reciprocal_ranks(task.mean(axis=(1, 2))) for task in matches], axis=0)
    draws = np.zeros((len(point), resamples))
    for number, task in enumerate(matches):
        shares = bootstrap_means(task.astype(np.float64), np.ones(task.shape[2]), resamples, seed + number)
        draws += reciprocal_ranks(np.round(shares.T, 12)) / len(
            matches
        )  # equal shares stay equal, whatever the order of summation
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=1)
    ends = [np.isclose(draws, end) for end in (draws.max(axis=0), draws.min(axis=0))]
    first, last = ((at & (at.sum(axis=0) == 1)).mean(axis=1) for at in ends)
    columns = zip(point.tolist(), low.tolist(), high.tolist(), first.tolist(), last.tolist(), strict=True)
    return [Ranking(*values) for values in columns]


def wilson(successes: int, trials: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927), within [0, 1]. Raises ValueError for impossible counts."""
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"successes={successes} of trials={trials}: needs 0 <= successes <= trials and trials >= 1")
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))
