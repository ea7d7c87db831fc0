"""What was found, in sentences generated from the numbers: no sentence says more than its interval allows."""

import math

from longrun.report import number_format as fmt
from longrun.report.comparability import hardly_trained
from longrun.report.comparisons import Comparison
from longrun.report.series import Line
from longrun.report.study import Study
from longrun.tracking.wandb_metrics import USABLE

WITHIN = f"{100 * (USABLE - 1):.0f} %"


def headline(study: Study) -> str:
    """One sentence: how many lines hold their own perplexity at the longest evaluated length."""
    longest = study.lengths[-1]
    judged = [line for line in study.lines if line.home is not None]
    at = study.length_name(longest)
    if not judged:
        return f"{_kinds(study.lines)} evaluated up to {at}, but not at the training length: no in-domain point yet"
    if longest <= max(study.train_lengths):
        return f"{_kinds(study.lines)} evaluated up to {at}: nothing beyond the training length yet"
    if all(map(hardly_trained, judged)):
        return f"{_kinds(judged)} evaluated up to {at}, and hardly trained: nothing can be said about lengths yet"
    trained = f" trained at {study.train_length:,} tokens" if study.train_length else ""
    holding = sum(line.usable() == longest for line in judged)
    rule = f"at most {WITHIN} above their own in-domain value"
    if len(judged) == 1:
        line, rule = judged[0], rule.replace("their", "its")
        return f"{line.label}{trained} holds its perplexity up to {study.length_name(_reach(line))}: {rule}"
    if holding == 0:
        return f"None of {_kinds(judged)}{trained} holds its perplexity at {at}: {rule.replace('their', 'its')}"
    if holding == len(judged):
        return f"All {_kinds(judged)}{trained} hold their perplexity at {at}: {rule}"
    if holding == 1:
        return f"1 of {_kinds(judged)}{trained} holds its perplexity at {at}: {rule.replace('their', 'its')}"
    return f"{holding} of {_kinds(judged)}{trained} hold their perplexity at {at}: {rule}"


def _reach(line: Line) -> int:
    """The usable length; a line without one has at least its training length."""
    return line.usable() or line.train_length


def _kinds(lines: list[Line]) -> str:
    noun = "scheme" if all(line.extension == "none" and not line.variant for line in lines) else "configuration"
    return fmt.plural(len(lines), noun)


def findings(study: Study) -> list[tuple[str, str]]:
    """Up to six (lead, sentence) below the headline, each with its numbers, interval and comparison."""
    found = {
        "Usable length": _holding(study),
        f"Best at {study.lengths[-1]:,} tokens": _best(study),
        "Largest gap": _worst(study),
        "In-domain": _at_home(study),
        "Use of context": _control(study),
        "Not applicable": _refusals(study),
    }
    return [(lead, sentence) for lead, sentence in found.items() if sentence]


def _holding(study: Study) -> str:
    longest = study.lengths[-1]
    if longest <= min(study.train_lengths):
        return ""
    judged = [line for line in study.lines if line.home]
    by_reach: dict[int, list[str]] = {}
    for line in judged:
        if line.longest.length == longest:
            by_reach.setdefault(_reach(line), []).append(line.label)
    parts = []
    for reach, labels in sorted(by_reach.items(), reverse=True):
        name = "the training length" if reach == study.train_length else f"{reach:,} tokens"
        name = f"at least {name}" if reach == longest else name
        parts.append(f"{name} for {fmt.listing(labels)}")
    rule = f"Largest length with a perplexity at most {WITHIN} above the in-domain one"
    return f"{rule}: {'; '.join(parts)}." if parts else ""


def _best(study: Study) -> str:
    longest = study.lengths[-1]
    reaching = [line for line in study.lines if longest in line.points and longest not in line.diverged]
    if len(reaching) < 2:
        return ""
    best, second = reaching[:2]
    if not study.comparable_tokens:
        bits = [f"{line.label} ({fmt.decimals(line.points[longest].bits_per_byte)})" for line in (best, second)]
        return f"Fewest bits per byte: {bits[0]}, then {bits[1]}."
    text = f"Lowest perplexity: {best.label}, {_ppl(best, longest)}; next is {second.label}, {_ppl(second, longest)}"
    pair = _find(study.pairs, best.label, second.label, longest)
    if pair is None:
        return f"{text}."
    verdict = "The difference" if pair.significant else "The difference is not resolved"
    return f"{text}. {verdict}: {_difference(pair)}, {fmt.share(pair.difference.won)} of documents won."


def _worst(study: Study) -> str:
    longest = study.lengths[-1]
    known = [(line.gap(longest), line) for line in study.lines]
    gaps = [(gap, line) for gap, line in known if gap is not None and math.isfinite(gap)]
    gap, line = max(gaps, key=lambda item: item[0], default=(0, None))
    if line is None or len(gaps) < 2 or gap <= 0:
        return ""
    found = study.gaps.get((line.label, longest))
    interval = f" {fmt.bounds(found.difference.low, found.difference.high)}" if found else ""
    return (
        f"{line.label}: {fmt.signed(gap)}{interval} nats per token from {line.train_length:,} to {longest:,} tokens "
        f"(perplexity {fmt.perplexity(line.home.ppl)} → {fmt.perplexity(line.points[longest].ppl)})."
    )


def _at_home(study: Study) -> str:
    plain = [line for line in study.lines if line.extension == "none"] or study.lines
    homes = sorted((line for line in plain if line.home), key=lambda line: line.home.nll)
    if len(homes) < 2 or not study.comparable_tokens:
        return ""
    best, worst = homes[0], homes[-1]
    text = (
        f"At the training length itself, perplexity runs from {best.label}, {_ppl(best, best.train_length)}, "
        f"to {worst.label}, {_ppl(worst, worst.train_length)}"
    )
    pair = _find(study.pairs, best.label, worst.label, best.train_length)
    return f"{text}: {_difference(pair)}." if pair else f"{text}."


def _control(study: Study) -> str:
    if not study.controls:
        return ""
    names = {line.label for line in study.lines}
    known = {label: c for label, c in study.controls.items() if label in names}
    better = [label for label, c in known.items() if c.significant and c.difference.mean < 0]
    worse = [label for label, c in known.items() if c.significant and c.difference.mean > 0]
    open_ = [label for label in known if label not in better and label not in worse]
    parts = []
    if better:
        parts.append(f"{fmt.listing(better)} predict{'s' if len(better) == 1 else ''} better with the whole context")
    if worse:
        parts.append(f"{fmt.listing(worse)} predict{'s' if len(worse) == 1 else ''} worse with the whole context")
    if open_:
        parts.append(f"for {fmt.listing(open_)} no difference is resolved")
    return (
        "Compared with the same checkpoint that sees only the last training length of keys, "
        + "; ".join(parts)
        + " (windowed control at the longest length, Holm-adjusted)."
    )


def _refusals(study: Study) -> str:
    refusing = [
        f"{line.label} from {min(line.refused):,} tokens ({next(iter(line.refused.values())).splitlines()[0]})"
        for line in study.lines
        if line.refused
    ]
    return f"{fmt.listing(refusing)}." if refusing else ""


def _ppl(line: Line, length: int) -> str:
    point = line.points[length]
    seeds = fmt.seed_range(point.ppl_seeds)
    return fmt.perplexity(point.ppl) + (f" (seeds {seeds})" if seeds else "")


def _difference(pair: Comparison) -> str:
    d = pair.difference
    number = f"{fmt.signed(d.mean)} nats per token {fmt.bounds(d.low, d.high)}, Holm p {fmt.p_value(pair.p_holm)}"
    return number if pair.all_seeds else f"{number}, on seed {fmt.listing(list(map(str, pair.seeds)))} that both have"


def _find(pairs: list[Comparison], a: str, b: str, length: int) -> Comparison | None:
    """The comparison a - b, turned round if the table holds b - a."""
    for pair in pairs:
        if pair.length == length and {pair.a, pair.b} == {a, b}:
            return pair if pair.a == a else pair.reversed()
    return None
