"""Rules that compare our numbers with published claims: one function per experiment, under the name of its file.

A condition is True or False if the whole interval lies on one side of its bound, else None. The numbers agree with a
claim if all its conditions are True, disagree if one is False, and are undecided otherwise.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from longrun.claims.evidence import Evidence
from longrun.report import number_format as fmt
from longrun.report.bootstrap import Difference, mean_reciprocal_rank
from longrun.report.series import perplexity

LONGEST = 32  # in training lengths
FLAT = 0.05  # nats per token that count as no change: 5 % of the perplexity
CLEAR_SHARE = 0.95  # of the resamples, for a clear first or last place


@dataclass(frozen=True)
class Finding:
    numbers: list[str]
    conditions: list[bool | None]

    @property
    def verdict(self) -> str:
        if False in self.conditions:
            return "disagrees"
        return "agrees" if all(self.conditions) else "undecided"


def below(difference: Difference, bound: float = 0.0) -> bool | None:
    return True if difference.high < bound else False if difference.low > bound else None


def above(difference: Difference, bound: float = 0.0) -> bool | None:
    return True if difference.low > bound else False if difference.high < bound else None


def within(difference: Difference, bound: float) -> bool | None:
    outside = difference.low > bound or difference.high < -bound
    return False if outside else True if -bound < difference.low and difference.high < bound else None


def sinusoidal_explodes(evidence: Evidence) -> Finding:
    (scheme,) = evidence.schemes
    gaps = {n: evidence.nll_difference((scheme, n), (scheme, 1)) for n in (2, 4)}
    either = [above(gap, math.log(10)) for gap in gaps.values()]
    condition = True if True in either else False if either == [False, False] else None
    return Finding([f"perplexity times {factor(gap)} at {n}L" for n, gap in gaps.items()], [condition])


def rope_degrades(evidence: Evidence) -> Finding:
    (scheme,) = evidence.schemes
    lengths = [2**n for n in range(int(math.log2(LONGEST)) + 1)]
    steps = {b: evidence.nll_difference((scheme, b), (scheme, a)) for a, b in pairwise(lengths)}
    return Finding(
        [f"{signed(step)} from {n // 2}L to {n}L" for n, step in steps.items()], list(map(above, steps.values()))
    )


def alibi_is_flat(evidence: Evidence) -> Finding:
    (scheme,) = evidence.schemes
    gap = evidence.nll_difference((scheme, LONGEST), (scheme, 1))
    control = evidence.nll_difference((scheme, LONGEST), (scheme, LONGEST, "window"))
    numbers = [f"gap {signed(gap)} at {LONGEST}L", f"{signed(control)} against its own window"]
    return Finding(numbers, [within(gap, FLAT), above(control, -FLAT)])


def learned_ends(evidence: Evidence) -> Finding:
    (scheme,) = evidence.schemes
    refused = evidence.refused(scheme, 2)
    stretched = evidence.nll_difference((scheme, 2, "table_interpolation"), (scheme, 1))
    numbers = [
        "no number beyond L as it is" if refused else "measured at 2L",
        f"gap {signed(stretched)} at 2L with rows interpolated",
    ]
    return Finding(numbers, [refused, above(stretched)])


def decay_is_flat(evidence: Evidence) -> Finding:
    gaps = {scheme: evidence.nll_difference((scheme, LONGEST), (scheme, 1)) for scheme in evidence.schemes}
    numbers = [f"{scheme}: gap {signed(gap)} at {LONGEST}L" for scheme, gap in gaps.items()]
    return Finding(numbers, [below(gap, FLAT) for gap in gaps.values()])


def kerple_improves(evidence: Evidence) -> Finding:
    (scheme,) = evidence.schemes
    gaps = {n: evidence.nll_difference((scheme, n), (scheme, 1)) for n in (8, LONGEST)}
    return Finding([f"gap {signed(gap)} at {n}L" for n, gap in gaps.items()], list(map(below, gaps.values())))


def t5_turns(evidence: Evidence) -> Finding:
    (scheme,) = evidence.schemes
    gaps = {n: evidence.nll_difference((scheme, n), (scheme, 1)) for n in (2, 4, 8, LONGEST)}
    best = min((2, 4), key=lambda n: gaps[n].mean)
    later = [evidence.nll_difference((scheme, n), (scheme, best)) for n in (8, LONGEST)]
    numbers = [f"gap {signed(gap)} at {n}L" for n, gap in gaps.items()]
    return Finding(numbers, [below(gaps[best]), *map(above, later)])


def extensions_of_rope(evidence: Evidence) -> Finding:
    (scheme,) = evidence.schemes
    pairs = [("rerope", "ntk"), ("ntk", "none")]
    differences = [evidence.nll_difference((scheme, 4, a), (scheme, 4, b)) for a, b in pairs]
    named = zip(differences, pairs, strict=True)
    return Finding(
        [f"{a} minus {b} {signed(difference)} at 4L" for difference, (a, b) in named], list(map(below, differences))
    )


def nope_leads_on_tasks(evidence: Evidence) -> Finding:
    schemes, tasks = evidence.schemes, evidence.experiment.swept["data"]
    ranked = mean_reciprocal_rank([evidence.matches(task, schemes) for task in tasks])
    by_name = dict(zip(schemes, ranked, strict=True))
    numbers = [
        f"{name} {ranking.mrr:.2f} [{ranking.low:.2f}, {ranking.high:.2f}]"
        for name, ranking in sorted(by_name.items(), key=lambda item: -item[1].mrr)
    ]
    first = {name: ranking.first for name, ranking in by_name.items()}
    last = {name: ranking.last for name, ranking in by_name.items()}
    return Finding(numbers, [is_clear_extreme("nope", first), is_clear_extreme("sinusoidal", last)])


def randomised_positions_help(evidence: Evidence) -> Finding:
    (scheme,), plans = evidence.schemes, evidence.experiment.swept["positions"]
    tasks = evidence.experiment.swept["data"]
    order = sorted(plans, key=lambda plan: plan == "contiguous")
    overall = evidence.accuracy_difference(tasks, [scheme], order)
    parts = [(task, evidence.accuracy_difference([task], [scheme], order)) for task in tasks]
    numbers = [f"{points(overall)} over all", *(f"{points(part)} on {task}" for task, part in parts)]
    return Finding(numbers, [above(overall)])


def gates_retrieve(evidence: Evidence) -> Finding:
    pairs = [("fox", "rope"), ("path", "fox")]
    tasks = evidence.experiment.swept["data"]
    differences = [evidence.accuracy_difference(tasks, [a, b]) for a, b in pairs]
    named = zip(differences, pairs, strict=True)
    return Finding(
        [f"{a} minus {b} {points(difference)}" for difference, (a, b) in named], list(map(above, differences))
    )


def is_clear_extreme(name: str, shares: dict[str, float]) -> bool | None:
    """True if `name` is first (or last) in a ranking, False if another scheme is, None if it is not clear.

    shares: per scheme the share of resamples in which it alone has that place.
    """
    clear = [other for other, share in shares.items() if share >= CLEAR_SHARE]
    return clear == [name] if clear else None


def signed(difference: Difference) -> str:
    """+0.12 [+0.10, +0.14], nats per token."""
    return f"{fmt.signed(difference.mean)} {fmt.bounds(difference.low, difference.high)}"


def points(difference: Difference) -> str:
    """A difference of shares in percentage points."""
    mean, low, high = (fmt.signed(100 * value, 1) for value in (difference.mean, difference.low, difference.high))
    return f"{mean} [{low}, {high}] points"


def factor(difference: Difference) -> str:
    """A difference of NLLs as a factor of perplexity."""
    mean, low, high = (fmt.perplexity(perplexity(x)) for x in (difference.mean, difference.low, difference.high))
    return f"{mean} [{low}, {high}]"


RULES: dict[str, Callable[[Evidence], Finding]] = {
    rule.__name__: rule
    for rule in (
        sinusoidal_explodes,
        rope_degrades,
        learned_ends,
        alibi_is_flat,
        decay_is_flat,
        kerple_improves,
        t5_turns,
        extensions_of_rope,
        nope_leads_on_tasks,
        randomised_positions_help,
        gates_retrieve,
    )
}
