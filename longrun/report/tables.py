"""The report's tables as plain cells, written once and rendered by report_markdown and report_html alike."""

import math
from dataclasses import dataclass, field

from longrun.report import number_format as fmt
from longrun.report.bootstrap import LEVEL, RESAMPLES
from longrun.report.comparisons import Comparison
from longrun.report.series import Line
from longrun.report.study import Study
from longrun.tracking.wandb_metrics import USABLE

INTERVAL = f"{100 * LEVEL:.0f} % interval"


@dataclass(frozen=True)
class Cell:
    text: str
    sub: str = ""  # the spread or interval that belongs to the number
    strong: bool = False  # best of its column, or significant
    title: str = ""  # why a number is missing
    depth: float = 0.0  # of its tint in a heat map, 0 to 1


@dataclass
class Table:
    """`keys` names the line of each row (for its colour); `metric` ties a table to a choice in the figure."""

    name: str
    title: str
    note: str
    columns: list[str]
    rows: list[list[Cell]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    metric: str = ""
    text_columns: int = 1  # how many leading columns hold words


def summary(study: Study) -> Table:
    """One row per line: size, speed, in-domain quality, extrapolation gap, usable length, windowed control."""
    home = "ppl at 1×" if study.comparable_tokens else "bits per byte at 1×"
    longest = study.lengths[-1]
    columns = ["scheme", "seeds", "parameters", "train tokens/s", home, f"gap at {longest:,}", "usable length"]
    note = (
        f"{sentence(study.scope)}. Below {home}: the range over seeds. Gap: NLL at {longest:,} tokens minus NLL at the "
        f"training length, nats per token, with its {INTERVAL}. Usable length: the largest evaluated length with "
        f"ppl ≤ {USABLE} × ppl at the training length. Versus own window: NLL minus that of the same checkpoint whose "
        "attention is limited to the last training length of keys; bold and negative means that more context helps "
        "(Holm-adjusted), otherwise a flat curve shows stability and not use of context."
    )
    table = Table("summary", "Summary", note, [*columns, "versus own window"])
    for line in study.lines:
        table.rows.append(
            [
                Cell(line.label),
                Cell(str(len(line.runs))),
                Cell(fmt.short(_done(line, "parameters"))),
                Cell(fmt.short(_done(line, "tokens_per_s"))),
                _home_cell(line, study),
                _gap_cell(line, longest, study),
                _usable_cell(line, study),
                _control_cell(study.controls.get(line.label)),
            ]
        )
        table.keys.append(line.label)
    return table


def by_length(study: Study) -> list[Table]:
    """Perplexity, bits per byte and gap at every length; perplexity and gap only under one tokenizer."""
    spread = " Small: the range over seeds." if study.several_seeds else ""
    note = f"{sentence(study.scope)}; a point pools its seeds' tokens, bold is the lowest of a column.{spread}"
    gap_note = f"{sentence(study.scope)}. Gap: NLL minus NLL at the training length, nats per token; small: {INTERVAL}."
    titles = {
        "ppl": ("Perplexity by evaluation length", note, _ppl_cell),
        "bpb": ("Bits per byte by evaluation length", note, _bits_cell),
        "gap": ("Extrapolation gap by evaluation length", gap_note, _gap_cell),
    }
    if not study.comparable_tokens:
        titles = {"bpb": titles["bpb"]}
    heads = [f"{n:,} ({fmt.ratio(n, study.train_length)})" if study.train_length else f"{n:,}" for n in study.lengths]
    tables = []
    for metric, (title, text, cell) in titles.items():
        table = Table(f"{metric}_by_length", title, text, ["scheme", *heads], metric=metric)
        for line in study.lines:
            table.rows.append([Cell(line.label), *(cell(line, n, study) for n in study.lengths)])
            table.keys.append(line.label)
        tables.append(table)
    return tables


def pairs(study: Study) -> Table:
    resamples = max((pair.difference.resamples for pair in study.pairs), default=RESAMPLES)
    smallest = 2 * len(study.pairs) / (resamples + 1)
    note = (
        f"{sentence(study.scope)}. Difference: NLL of A minus NLL of B in nats per token over identical targets, "
        f"negative when A predicts better. {INTERVAL} and p from {resamples:,} paired bootstrap resamples of documents"
        + (" and seeds (schemes are paired by seed)" if study.several_seeds else "")
        + f"; p is Holm-adjusted over the {fmt.plural(len(study.pairs), 'comparison')} of this table (so many "
        f"resamples cannot show an adjusted p below {fmt.p_value(min(1.0, smallest))}); bold at p ≤ 0.05."
    )
    columns = ["A", "B", "length", "difference A − B", INTERVAL, "Holm p", "documents won by A", "documents", "seeds"]
    table = Table("pairs", "Pairwise differences", note, columns, text_columns=2)
    for pair in study.pairs:
        d = pair.difference
        table.rows.append(
            [
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
        )
        table.keys.append(pair.a)
    return table


def cost(study: Study) -> Table:
    note = f"Means over seeds. Evaluation time: all lengths of protocol {study.protocol}, and its longest length alone."
    columns = ["scheme", "parameters", "without embeddings", "steps", "tokens", "train seconds", "train tokens/s"]
    table = Table("cost", "Cost", note, [*columns, "final valid. bits/byte", "eval seconds", "at the longest"])
    for line in study.lines:
        exact = [_done(line, key) for key in ("parameters", "parameters_non_embedding", "steps", "tokens")]
        seconds = [each.seconds for each in line.evaluations.values() if each.seconds]
        table.rows.append(
            [
                Cell(line.label),
                *(Cell(fmt.count(value)) for value in exact),
                Cell(fmt.decimals(_done(line, "seconds"), 1)),
                Cell(fmt.count(_rounded(_done(line, "tokens_per_s")))),
                Cell(fmt.decimals(_done(line, "valid_bits_per_byte"))),
                Cell(fmt.decimals(_mean([sum(times.values()) for times in seconds]), 1)),
                Cell(fmt.decimals(_mean([times[max(times)] for times in seconds]), 1)),
            ]
        )
        table.keys.append(line.label)
    return table


def _done(line: Line, key: str) -> float | None:
    """Mean of a number in the runs' `done` summaries."""
    values = [run.done.get(key) for run in line.runs.values()]
    return _mean([value for value in values if isinstance(value, int | float)])


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _rounded(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(value)


def _home_cell(line: Line, study: Study) -> Cell:
    return (_ppl_cell if study.comparable_tokens else _bits_cell)(line, line.train_length, study)


def _missing(line: Line, length: int) -> Cell:
    refusal = line.refused.get(length)
    return Cell("n/a", title=refusal) if refusal else Cell(fmt.NONE, title="not evaluated")


def _ppl_cell(line: Line, length: int, study: Study) -> Cell:
    point = line.points.get(length)
    if point is None:
        return _missing(line, length)
    best = _best(study, length, "nll")
    return Cell(fmt.perplexity(point.ppl), fmt.seed_range(point.ppl_seeds), strong=point.nll == best)


def _best(study: Study, length: int, name: str) -> float | None:
    """The lowest finite value at a length, if there is more than one line to be better than."""
    values = [getattr(line.points[length], name) for line in study.lines if length in line.points]
    return min((v for v in values if math.isfinite(v)), default=None) if len(values) > 1 else None


def _bits_cell(line: Line, length: int, study: Study) -> Cell:
    point = line.points.get(length)
    if point is None:
        return _missing(line, length)
    best = _best(study, length, "bits_per_byte")
    spread = fmt.seed_range(point.bits_seeds, fmt.decimals)
    return Cell(fmt.decimals(point.bits_per_byte), spread, strong=point.bits_per_byte == best)


def _gap_cell(line: Line, length: int, study: Study) -> Cell:
    gap = line.gap(length)
    if gap is None:
        return _missing(line, length)
    found = study.gaps.get((line.label, length))
    return Cell(fmt.signed(gap), fmt.bounds(found.difference.low, found.difference.high) if found else "")


def _usable_cell(line: Line, study: Study) -> Cell:
    usable = line.usable()
    if usable is None:
        return Cell(fmt.NONE, title="not evaluated at the training length")
    beyond = "≥ " if usable == line.longest.length and not line.refused else ""
    return Cell(f"{beyond}{usable:,}", fmt.ratio(usable, line.train_length))


def _control_cell(comparison: Comparison | None) -> Cell:
    if comparison is None:
        return Cell(fmt.NONE, title="no windowed control, or no per-token files")
    d = comparison.difference
    return Cell(fmt.signed(d.mean), fmt.bounds(d.low, d.high), strong=comparison.significant)


def sentence(text: str) -> str:
    return text[0].upper() + text[1:]
