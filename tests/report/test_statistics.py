"""The report's statistics against enumeration, scipy and definitions written out."""

import itertools

import numpy as np
import pytest
from scipy import stats

from longrun.report import bootstrap

DOCUMENTS = 40


def paired_bootstrap(a, b, counts, resamples=bootstrap.RESAMPLES):
    """One pair of one seed: NLL sums a, b (D,) and token counts (D,) of the same documents."""
    a, b = np.asarray(a)[None, None], np.asarray(b)[None, None]
    return bootstrap.hierarchical_bootstrap(a, b, counts, resamples)[0]


def two_schemes(rng, difference=0.1, seeds=1):
    """NLL sums (seeds, D) of two schemes and token counts (D,): documents of very different lengths."""
    counts = rng.integers(20, 2000, DOCUMENTS)
    hardness = rng.gamma(4.0, 0.5, DOCUMENTS)
    a = (hardness + rng.normal(difference, 0.2, (seeds, DOCUMENTS))) * counts
    b = (hardness + rng.normal(0.0, 0.1, (seeds, DOCUMENTS))) * counts
    return a, b, counts


def test_a_mean_is_over_tokens_not_over_documents():
    sums, counts = np.array([[10.0, 900.0]]), np.array([10, 300])  # document means 1 and 3
    assert bootstrap.token_weighted_mean(sums, counts) == pytest.approx(910 / 310)
    difference = paired_bootstrap(sums[0], np.zeros(2), counts)
    assert difference.mean == pytest.approx(910 / 310)  # a mean of means would be 2


def test_document_bootstrap_matches_full_enumeration():
    a, b = np.array([5.0, -3.0, 12.0, 0.5]), np.array([4.0, 1.0, 7.0, 2.0])
    counts = np.array([3, 10, 6, 1])
    exact = np.array([(a - b)[list(d)].sum() / counts[list(d)].sum() for d in itertools.product(range(4), repeat=4)])
    draws = bootstrap.bootstrap_means((a - b)[None, None], counts, resamples=200_000)[:, 0]
    assert set(np.round(draws, 9)) == set(np.round(exact, 9))
    assert draws.mean() == pytest.approx(exact.mean(), abs=0.005)
    assert np.mean(draws <= 0) == pytest.approx(np.mean(exact <= 0), abs=0.005)
    got = paired_bootstrap(a, b, counts, resamples=200_000)
    assert got.p == pytest.approx(2 * min(np.mean(exact <= 0), np.mean(exact >= 0)), abs=0.01)


def test_seed_and_document_bootstrap_matches_full_enumeration():
    sums = np.array([[5.0, -3.0, 2.0], [4.0, -1.0, 0.5]])  # 2 seeds, 3 documents
    counts = np.array([2, 7, 4])
    exact = np.array(
        [
            sum(sums[s][list(d)].sum() for s in seeds) / (2 * counts[list(d)].sum())
            for seeds in itertools.product(range(2), repeat=2)
            for d in itertools.product(range(3), repeat=3)
        ]
    )
    draws = bootstrap.bootstrap_means(sums[None], counts, resamples=200_000)[:, 0]
    assert set(np.round(draws, 9)) == set(np.round(exact, 9))
    assert draws.std() == pytest.approx(exact.std(), rel=0.01)
    for at in np.quantile(exact, (0.1, 0.3, 0.7, 0.9)):
        assert np.mean(draws <= at) == pytest.approx(np.mean(exact <= at), abs=0.01)


def test_paired_interval_agrees_with_scipy():
    a, b, counts = two_schemes(np.random.default_rng(3))
    got = paired_bootstrap(a[0], b[0], counts)
    want = stats.bootstrap(
        ((a - b)[0], counts),
        lambda sums, n, axis: sums.sum(axis) / n.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=10_000,
        method="percentile",
        random_state=1,
    )
    width = want.confidence_interval.high - want.confidence_interval.low
    assert got.low == pytest.approx(want.confidence_interval.low, abs=0.05 * width)
    assert got.high == pytest.approx(want.confidence_interval.high, abs=0.05 * width)
    assert got.mean == pytest.approx((a - b).sum() / counts.sum())
    assert got.won == np.mean(a < b)
    assert (got.documents, got.tokens, got.seeds) == (DOCUMENTS, counts.sum(), 1)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng, hits = np.random.default_rng(11), 0
    for _ in range(300):
        counts = rng.integers(50, 150, DOCUMENTS)
        sums = rng.normal(0.3, 0.5, DOCUMENTS) * counts
        got = paired_bootstrap(sums, np.zeros(DOCUMENTS), counts, resamples=1000)
        hits += got.low <= 0.3 <= got.high
    assert 0.90 <= hits / 300 <= 0.98


def test_more_seeds_of_the_same_documents_do_not_shrink_the_document_part():
    a, b, counts = two_schemes(np.random.default_rng(5))
    one = paired_bootstrap(a[0], b[0], counts)
    copies = np.repeat(a[None], 4, axis=1), np.repeat(b[None], 4, axis=1)
    four = bootstrap.hierarchical_bootstrap(*copies, counts)[0]
    assert four.high - four.low == pytest.approx(one.high - one.low, rel=0.05)
    assert four.seeds == 4


def test_seeds_that_disagree_widen_the_interval():
    a, b, counts = two_schemes(np.random.default_rng(6), seeds=3)
    shifted = a + counts * np.array([[-0.5], [0.0], [0.5]])
    together = bootstrap.hierarchical_bootstrap(a[None], b[None], counts)[0]
    apart = bootstrap.hierarchical_bootstrap(shifted[None], b[None], counts)[0]
    assert apart.mean == pytest.approx(together.mean)
    assert apart.high - apart.low > 3 * (together.high - together.low)


def test_comparisons_in_one_call_equal_separate_calls_and_repeat():
    a, b, counts = two_schemes(np.random.default_rng(7), seeds=2)
    both = bootstrap.hierarchical_bootstrap(np.stack([a, b]), np.stack([b, a]), counts)
    alone = bootstrap.hierarchical_bootstrap(a[None], b[None], counts)[0]
    assert both[0] == alone
    assert both[1].low == pytest.approx(-alone.high)
    assert both[1].won == pytest.approx(1 - alone.won)
    assert bootstrap.intervals((a - b)[None], counts)[0].low == alone.low


def test_small_blocks_give_whole_answers(monkeypatch):
    a, b, counts = two_schemes(np.random.default_rng(8))
    whole = paired_bootstrap(a[0], b[0], counts)
    monkeypatch.setattr(bootstrap, "BLOCK", 7 * DOCUMENTS)
    parts = paired_bootstrap(a[0], b[0], counts)
    assert parts.low == pytest.approx(whole.low, abs=0.1 * (whole.high - whole.low))
    assert np.isfinite([parts.low, parts.high]).all()


def test_equal_schemes_are_a_tie():
    a, _, counts = two_schemes(np.random.default_rng(9))
    got = paired_bootstrap(a[0], a[0], counts)
    assert (got.mean, got.low, got.high, got.p, got.won) == (0, 0, 0, 1, 0.5)


@pytest.mark.parametrize(
    ("a", "b", "counts", "resamples", "says"),
    [
        (np.ones(3), np.ones(4), np.ones(3), 1000, "not paired"),
        (np.ones(3), np.ones(3), np.ones(4), 1000, "documents"),
        (np.ones(3), np.ones(3), np.array([1, 0, 1]), 1000, "without scored tokens"),
        (np.ones(3), np.ones(3), np.ones(3), 999, "at least 1,000"),
        (np.ones(0), np.ones(0), np.ones(0), 1000, "documents"),
    ],
)
def test_what_cannot_be_resampled_is_refused(a, b, counts, resamples, says):
    with pytest.raises(ValueError, match=says):
        paired_bootstrap(a, b, counts, resamples)


def holm_rejects(p, alpha):
    """Holm 1979 as a procedure: walk up the sorted p-values, stop at the first that fails."""
    rejected = np.zeros(len(p), bool)
    for rank, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        if p[index] > alpha / (len(p) - rank):
            break
        rejected[index] = True
    return rejected


def test_holm_rejects_what_the_step_down_procedure_rejects():
    rng = np.random.default_rng(2)
    for size in (1, 2, 5, 21):
        p = rng.uniform(0, 0.1, size) ** 2
        adjusted = bootstrap.holm(p)
        for alpha in (0.001, 0.01, 0.0499, 0.2):
            assert ((adjusted <= alpha) == holm_rejects(p, alpha)).all()
    assert bootstrap.holm(np.array([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])
    assert bootstrap.holm(np.array([0.9, 0.8])).max() == 1.0


@pytest.mark.parametrize("tests", [1, 42, 132])
def test_enough_resamples_for_holm_to_reject(tests):
    resamples = bootstrap.resamples_for(tests, DOCUMENTS)
    certain = paired_bootstrap(np.zeros(DOCUMENTS), np.ones(DOCUMENTS), np.ones(DOCUMENTS), resamples)
    assert certain.p * tests < 0.0105
    assert bootstrap.resamples_for(tests, 10**6) == 10_000


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (0, 100), (7, 10), (100, 100), (431, 1000)])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_wilson_agrees_with_scipy(successes, trials, level):
    want = stats.binomtest(successes, trials).proportion_ci(level, method="wilson")
    assert bootstrap.wilson(successes, trials, level) == pytest.approx((want.low, want.high), abs=1e-12)


def test_wilson_refuses_impossible_counts():
    with pytest.raises(ValueError, match="successes=3 of trials=2"):
        bootstrap.wilson(3, 2)
