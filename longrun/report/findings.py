"""Findings as sentences generated from the numbers. No sentence claims more than its interval supports."""

import math

from longrun.report import number_format as fmt
from longrun.report.comparability import hardly_trained
from longrun.report.comparisons import Comparison
from longrun.report.protocol_results import ProtocolResults
from longrun.report.series import Series
from longrun.tracking.wandb_metrics import USABLE

WITHIN = f"{100 * (USABLE - 1):.0f} %"


def headline(results: ProtocolResults) -> str:
    """One sentence: how many curves hold their own perplexity at the longest evaluated length."""
    longest = results.lengths[-1]
    judged = [curve for curve in results.curves if curve.in_domain is not None]
    at = results.length_name(longest)
    if not judged:
        return f"{_count(results.curves)} evaluated up to {at}, but not at the training length: no in-domain point yet"
    if longest <= max(results.train_lengths):
        return f"{_count(results.curves)} evaluated up to {at}: nothing beyond the training length yet"
    if all(map(hardly_trained, judged)):
        return f"{_count(judged)} evaluated up to {at}, hardly trained: nothing can be said about lengths yet"
    trained = f" trained at {results.train_length:,} tokens" if results.train_length else ""
    holding = sum(curve.usable_length() == longest for curve in judged)
    rule = f"at most {WITHIN} above their own in-domain value"
    its_rule = rule.replace("their", "its")
    if len(judged) == 1:
        reach = results.length_name(_reach(judged[0]))
        return f"{judged[0].label}{trained} holds its perplexity up to {reach}: {its_rule}"
    if holding == 0:
        return f"None of {_count(judged)}{trained} holds its perplexity at {at}: {its_rule}"
    if holding == len(judged):
        return f"All {_count(judged)}{trained} hold their perplexity at {at}: {rule}"
    if holding == 1:
        return f"1 of {_count(judged)}{trained} holds its perplexity at {at}: {its_rule}"
    return f"{holding} of {_count(judged)}{trained} hold their perplexity at {at}: {rule}"


def _reach(curve: Series) -> int:
    """The usable length; at least the training length."""
    return curve.usable_length() or curve.train_length


def _count(curves: list[Series]) -> str:
    noun = "scheme" if all(curve.extension == "none" and not curve.variant for curve in curves) else "configuration"
    return fmt.plural(len(curves), noun)


def findings(results: ProtocolResults) -> list[tuple[str, str]]:
    """Up to six (lead, sentence), each with its numbers, interval and comparison."""
    sentences = {
        "Usable length": _usable_lengths(results),
        f"Best at {results.lengths[-1]:,} tokens": _best(results),
        "Largest gap": _largest_gap(results),
        "In-domain": _in_domain(results),
        "Use of context": _use_of_context(results),
        "Not applicable": _refusals(results),
    }
    return [(lead, sentence) for lead, sentence in sentences.items() if sentence]


def _usable_lengths(results: ProtocolResults) -> str:
    longest = results.lengths[-1]
    if longest <= min(results.train_lengths):
        return ""
    by_reach: dict[int, list[str]] = {}
    for curve in results.curves:
        if curve.in_domain and curve.longest and curve.longest.length == longest:
            by_reach.setdefault(_reach(curve), []).append(curve.label)
    parts = []
    for reach, labels in sorted(by_reach.items(), reverse=True):
        name = "the training length" if reach == results.train_length else f"{reach:,} tokens"
        name = f"at least {name}" if reach == longest else name
        parts.append(f"{name} for {fmt.listing(labels)}")
    rule = f"Largest length with a perplexity at most {WITHIN} above the in-domain one"
    return f"{rule}: {'; '.join(parts)}." if parts else ""


def _best(results: ProtocolResults) -> str:
    longest = results.lengths[-1]
    reaching = [curve for curve in results.curves if longest in curve.points and longest not in curve.diverged]
    if len(reaching) < 2:
        return ""
    best, second = reaching[:2]
    if not results.comparable_tokens:
        bits = [f"{curve.label} ({fmt.decimals(curve.points[longest].bits_per_byte)})" for curve in (best, second)]
        return f"Fewest bits per byte: {bits[0]}, then {bits[1]}."
    text = f"Lowest perplexity: {best.label}, {_ppl(best, longest)}; next is {second.label}, {_ppl(second, longest)}"
    pair = _find(results.pairs, best.label, second.label, longest)
    if pair is None:
        return f"{text}."
    verdict = "The difference" if pair.significant else "The difference is not resolved"
    return f"{text}. {verdict}: {_difference(pair)}, {fmt.share(pair.difference.won)} of documents won."


def _largest_gap(results: ProtocolResults) -> str:
    longest = results.lengths[-1]
    gaps = [(gap, curve) for curve in results.curves if (gap := curve.gap(longest)) is not None and math.isfinite(gap)]
    if len(gaps) < 2:
        return ""
    gap, curve = max(gaps, key=lambda item: item[0])
    if gap <= 0 or curve.in_domain is None:
        return ""
    comparison = results.gaps.get((curve.label, longest))
    interval = f" {fmt.bounds(comparison.difference.low, comparison.difference.high)}" if comparison else ""
    return (
        f"{curve.label}: {fmt.signed(gap)}{interval} nats per token from {curve.train_length:,} to {longest:,} tokens "
        f"(perplexity {fmt.perplexity(curve.in_domain.ppl)} → {fmt.perplexity(curve.points[longest].ppl)})."
    )


def _in_domain(results: ProtocolResults) -> str:
    unextended = [curve for curve in results.curves if curve.extension == "none"] or results.curves
    ranked = sorted((curve.in_domain.nll, i, curve) for i, curve in enumerate(unextended) if curve.in_domain)
    if len(ranked) < 2 or not results.comparable_tokens:
        return ""
    best, worst = ranked[0][2], ranked[-1][2]
    text = (
        f"At the training length, perplexity runs from {best.label}, {_ppl(best, best.train_length)}, "
        f"to {worst.label}, {_ppl(worst, worst.train_length)}"
    )
    pair = _find(results.pairs, best.label, worst.label, best.train_length)
    return f"{text}: {_difference(pair)}." if pair else f"{text}."


def _use_of_context(results: ProtocolResults) -> str:
    if not results.controls:
        return ""
    names = {curve.label for curve in results.curves}
    controls = {label: each for label, each in results.controls.items() if label in names}
    better = [label for label, each in controls.items() if each.significant and each.difference.mean < 0]
    worse = [label for label, each in controls.items() if each.significant and each.difference.mean > 0]
    unresolved = [label for label in controls if label not in better and label not in worse]
    parts = []
    if better:
        parts.append(f"{fmt.listing(better)} predict{'s' if len(better) == 1 else ''} better with the whole context")
    if worse:
        parts.append(f"{fmt.listing(worse)} predict{'s' if len(worse) == 1 else ''} worse with the whole context")
    if unresolved:
        parts.append(f"for {fmt.listing(unresolved)} no difference is resolved")
    return (
        "Compared with the same checkpoint whose attention is limited to the last training length of keys, "
        + "; ".join(parts)
        + " (windowed control at the longest length, Holm-adjusted)."
    )


def _refusals(results: ProtocolResults) -> str:
    refusing = [
        f"{curve.label} from {min(curve.refused):,} tokens ({next(iter(curve.refused.values())).splitlines()[0]})"
        for curve in results.curves
        if curve.refused
    ]
    return f"{fmt.listing(refusing)}." if refusing else ""


def _ppl(curve: Series, length: int) -> str:
    point = curve.points[length]
    seeds = fmt.seed_range(point.ppl_seeds)
    return fmt.perplexity(point.ppl) + (f" (seeds {seeds})" if seeds else "")


def _difference(pair: Comparison) -> str:
    d = pair.difference
    number = f"{fmt.signed(d.mean)} nats per token {fmt.bounds(d.low, d.high)}, Holm p {fmt.p_value(pair.p_holm)}"
    return number if pair.all_seeds else f"{number}, on seed {fmt.listing(list(map(str, pair.seeds)))} that both have"


def _find(pairs: list[Comparison], a: str, b: str, length: int) -> Comparison | None:
    """The comparison a - b, reversed if the table holds b - a."""
    for pair in pairs:
        if pair.length == length and {pair.a, pair.b} == {a, b}:
            return pair if pair.a == a else pair.reversed()
    return None
