"""The report's tables as plain cells, rendered by both html.py and markdown.py."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from longrun.report import number_format as fmt
from longrun.report.bootstrap import LEVEL, RESAMPLES
from longrun.report.comparisons import Comparison
from longrun.report.protocol_results import ProtocolResults
from longrun.report.series import Series
from longrun.tracking.wandb_metrics import USABLE

INTERVAL = f"{100 * LEVEL:.0f} % interval"


@dataclass(frozen=True)
class Cell:
    text: str
    sub: str = ""  # the spread or interval of the number
    strong: bool = False  # best of its column, or significant
    title: str = ""  # reason of a missing number
    depth: float = 0.0  # strength of its tint in a heat map, 0 to 1


@dataclass
class Table:
    """`keys`: label of each row's curve (for its colour).  `metric`: the choice in the figure that shows this table."""

    name: str
    title: str
    note: str
    columns: list[str]
    rows: list[list[Cell]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    metric: str = ""
    text_columns: int = 1  # number of leading columns of text

    def add(self, key: str, cells: list[Cell]) -> None:
        self.rows.append(cells)
        self.keys.append(key)


def tables_of(results: ProtocolResults) -> list[Table]:
    return [summary(results), *by_length(results), pairs(results), cost(results)]


def summary(results: ProtocolResults) -> Table:
    """One row per curve: size, speed, in-domain quality, extrapolation gap, usable length, windowed control."""
    in_domain = "ppl at 1×" if results.comparable_tokens else "bits per byte at 1×"
    longest = results.lengths[-1]
    columns = ["scheme", "seeds", "parameters", "train tokens/s", in_domain, f"gap at {longest:,}", "usable length"]
    note = (
        f"{fmt.sentence(results.scope)}. Below {in_domain}: the range over seeds. Gap: NLL at {longest:,} tokens minus "
        f"NLL at the training length, nats per token, with its {INTERVAL}. Usable length: the largest evaluated length "
        f"with ppl ≤ {USABLE} × ppl at the training length. Versus own window: NLL minus that of the same checkpoint "
        "whose attention is limited to the last training length of keys; bold and negative means that more context "
        "helps (Holm-adjusted), otherwise a flat curve shows stability and not use of context."
    )
    table = Table("summary", "Summary", note, [*columns, "versus own window"])
    for curve in results.curves:
        cells = [
            Cell(curve.label),
            Cell(str(len(curve.runs))),
            Cell(fmt.short(_mean_of_runs(curve, "parameters"))),
            Cell(fmt.short(_mean_of_runs(curve, "tokens_per_s"))),
            (_ppl_cell if results.comparable_tokens else _bits_cell)(curve, curve.train_length, results),
            _gap_cell(curve, longest, results),
            _usable_cell(curve),
            _control_cell(results.controls.get(curve.label)),
        ]
        table.add(curve.label, cells)
    return table


def by_length(results: ProtocolResults) -> list[Table]:
    """Perplexity, bits per byte and gap at every length; perplexity and gap only under one tokenizer."""
    scope = fmt.sentence(results.scope)
    spread = " Small: the range over seeds." if results.several_seeds else ""
    note = f"{scope}; a point pools its seeds' tokens, bold is the lowest of a column.{spread}"
    gap_note = f"{scope}. Gap: NLL minus NLL at the training length, nats per token; small: {INTERVAL}."
    parts: list[tuple[str, str, str, Callable[[Series, int, ProtocolResults], Cell]]] = [
        ("ppl", "Perplexity by evaluation length", note, _ppl_cell),
        ("bpb", "Bits per byte by evaluation length", note, _bits_cell),
        ("gap", "Extrapolation gap by evaluation length", gap_note, _gap_cell),
    ]
    trained = results.train_length
    heads = [f"{n:,} ({fmt.ratio(n, trained)})" if trained else f"{n:,}" for n in results.lengths]
    tables = []
    for metric, title, text, cell in parts:
        if metric != "bpb" and not results.comparable_tokens:
            continue
        table = Table(f"{metric}_by_length", title, text, ["scheme", *heads], metric=metric)
        for curve in results.curves:
            table.add(curve.label, [Cell(curve.label), *(cell(curve, n, results) for n in results.lengths)])
        tables.append(table)
    return tables


def pairs(results: ProtocolResults) -> Table:
    resamples = max((pair.difference.resamples for pair in results.pairs), default=RESAMPLES)
    smallest = 2 * len(results.pairs) / (resamples + 1)
    note = (
        f"{fmt.sentence(results.scope)}. Difference: NLL of A minus NLL of B in nats per token over identical targets, "
        f"negative when A predicts better. {INTERVAL} and p from {resamples:,} paired bootstrap resamples of documents"
        + (" and seeds (schemes are paired by seed)" if results.several_seeds else "")
        + f"; p is Holm-adjusted over the {fmt.plural(len(results.pairs), 'comparison')} of this table (this number of "
        f"resamples cannot show an adjusted p below {fmt.p_value(min(1.0, smallest))}); bold at p ≤ 0.05."
    )
    columns = ["A", "B", "length", "difference A − B", INTERVAL, "Holm p", "documents won by A", "documents", "seeds"]
    table = Table("pairs", "Pairwise differences", note, columns, text_columns=2)
    for pair in results.pairs:
        d = pair.difference
        cells = [
            Cell(pair.a),
            Cell(pair.b),
            Cell(f"{pair.length:,}"),
            Cell(fmt.signed(d.mean), strong=pair.significant),
            Cell(fmt.bounds(d.low, d.high)),
            Cell(fmt.p_value(pair.p_holm)),
            Cell(fmt.share(d.won)),
            Cell(f"{d.documents:,}"),
            Cell(str(d.seeds)),
        ]
        table.add(pair.a, cells)
    return table


def cost(results: ProtocolResults) -> Table:
    note = (
        f"Means over seeds. Evaluation time: all lengths of protocol {results.protocol}, and its longest length alone."
    )
    columns = ["scheme", "parameters", "without embeddings", "steps", "tokens", "train seconds", "train tokens/s"]
    table = Table("cost", "Cost", note, [*columns, "final valid. bits/byte", "eval seconds", "at the longest"])
    for curve in results.curves:
        exact = [_mean_of_runs(curve, key) for key in ("parameters", "parameters_non_embedding", "steps", "tokens")]
        seconds = [each.seconds for each in curve.evaluations.values() if each.seconds]
        cells = [
            Cell(curve.label),
            *(Cell(fmt.count(value)) for value in exact),
            Cell(fmt.decimals(_mean_of_runs(curve, "seconds"), 1)),
            Cell(fmt.count(_rounded(_mean_of_runs(curve, "tokens_per_s")))),
            Cell(fmt.decimals(_mean_of_runs(curve, "valid_bits_per_byte"))),
            Cell(fmt.decimals(_mean([sum(times.values()) for times in seconds]), 1)),
            Cell(fmt.decimals(_mean([times[max(times)] for times in seconds]), 1)),
        ]
        table.add(curve.label, cells)
    return table


def _mean_of_runs(curve: Series, key: str) -> float | None:
    """Mean of a number in the runs' `done` summaries."""
    values = [run.done.get(key) for run in curve.runs.values()]
    return _mean([value for value in values if isinstance(value, int | float)])


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _rounded(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(value)


def _missing(curve: Series, length: int) -> Cell:
    refusal = curve.refused.get(length)
    return Cell("n/a", title=refusal) if refusal else Cell(fmt.NONE, title="not evaluated")


def _ppl_cell(curve: Series, length: int, results: ProtocolResults) -> Cell:
    point = curve.points.get(length)
    if point is None:
        return _missing(curve, length)
    best = _best(results, length, "nll")
    return Cell(fmt.perplexity(point.ppl), fmt.seed_range(point.ppl_seeds), strong=point.nll == best)


def _bits_cell(curve: Series, length: int, results: ProtocolResults) -> Cell:
    point = curve.points.get(length)
    if point is None:
        return _missing(curve, length)
    best = _best(results, length, "bits_per_byte")
    spread = fmt.seed_range(point.bits_seeds, fmt.decimals)
    return Cell(fmt.decimals(point.bits_per_byte), spread, strong=point.bits_per_byte == best)


def _best(results: ProtocolResults, length: int, name: str) -> float | None:
    """The lowest finite value at a length; None if only one curve has the length."""
    values = [getattr(curve.points[length], name) for curve in results.curves if length in curve.points]
    return min((v for v in values if math.isfinite(v)), default=None) if len(values) > 1 else None


def _gap_cell(curve: Series, length: int, results: ProtocolResults) -> Cell:
    gap = curve.gap(length)
    if gap is None:
        return _missing(curve, length)
    comparison = results.gaps.get((curve.label, length))
    interval = fmt.bounds(comparison.difference.low, comparison.difference.high) if comparison else ""
    return Cell(fmt.signed(gap), interval)


def _usable_cell(curve: Series) -> Cell:
    usable = curve.usable_length()
    if usable is None or curve.longest is None:
        return Cell(fmt.NONE, title="not evaluated at the training length")
    at_least = "≥ " if usable == curve.longest.length and not curve.refused else ""
    return Cell(f"{at_least}{usable:,}", fmt.ratio(usable, curve.train_length))


def _control_cell(comparison: Comparison | None) -> Cell:
    if comparison is None:
        return Cell(fmt.NONE, title="no windowed control, or no per-token files")
    d = comparison.difference
    return Cell(fmt.signed(d.mean), fmt.bounds(d.low, d.high), strong=comparison.significant)
