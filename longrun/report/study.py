"""One protocol's lines with everything that was computed about them: what tables, figures and sentences read."""

import math
from dataclasses import dataclass, field

from longrun.report import number_format as fmt
from longrun.report.bootstrap import Interval
from longrun.report.comparability import tokenizers
from longrun.report.comparisons import Comparison, against_control, gaps, nll_intervals, pairwise
from longrun.report.load import Run
from longrun.report.series import Line, lines_of, protocols


@dataclass
class Study:
    """Lines are ranked: best NLL at the longest length first, lines that do not reach it last."""

    protocol: str
    lines: list[Line]
    pairs: list[Comparison] = field(default_factory=list)
    controls: dict[str, Comparison] = field(default_factory=dict)
    gaps: dict[tuple[str, int], Comparison] = field(default_factory=dict)
    intervals: dict[tuple[str, int], Interval] = field(default_factory=dict)

    @property
    def comparable_tokens(self) -> bool:
        """One tokenizer, so that perplexities may stand side by side; otherwise only bits per byte may."""
        return len(tokenizers(self.lines)) == 1

    @property
    def lengths(self) -> list[int]:
        return sorted({n for line in self.lines for n in (*line.points, *line.refused)})

    @property
    def train_lengths(self) -> list[int]:
        return sorted({line.train_length for line in self.lines})

    @property
    def train_length(self) -> int | None:
        """The training length if all lines share it."""
        return self.train_lengths[0] if len(self.train_lengths) == 1 else None

    @property
    def several_seeds(self) -> bool:
        return any(len(line.runs) > 1 for line in self.lines)

    def length_name(self, length: int) -> str:
        """2,048 tokens (16×)."""
        ratio = f" ({fmt.ratio(length, self.train_length)})" if self.train_length else ""
        return f"{length:,} tokens{ratio}"

    @property
    def scope(self) -> str:
        """Protocol and sample size in a few words: what stands under every table and figure."""
        points = [point for line in self.lines for point in line.points.values()]
        tokens, documents, windows = (
            _span([getattr(point, name) for point in points]) for name in ("tokens", "documents", "windows")
        )
        seeds = _span([len(line.runs) for line in self.lines])
        same = "the same " if self.protocol == "fixed_targets" and self.comparable_tokens else ""
        texts = f" of {documents} documents" if documents != "0" else ""
        fed = f" in {windows} windows" if windows != "0" else ""
        return (
            f"protocol {self.protocol}, {same}{tokens} target tokens{texts}{fed} at each length, "
            f"{seeds} seed{'' if seeds == '1' else 's'}"
        )


def _span(values: list[int]) -> str:
    low, high = min(values, default=0), max(values, default=0)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def studies_of(runs: list[Run]) -> list[Study]:
    """One study per protocol, the leading protocol first. per_position leads only if it is alone."""
    found = []
    names = protocols(runs)
    for protocol in [name for name in names if name != "per_position"] or names:
        study = Study(protocol, lines_of(runs, protocol))
        study.lines.sort(key=lambda line, study=study: _rank(line, study))
        study.pairs = pairwise(study.lines)
        study.controls = against_control(study.lines)
        study.gaps = gaps(study.lines)
        study.intervals = nll_intervals(study.lines)
        found.append(study)
    return found


def _rank(line: Line, study: Study) -> tuple:
    point = line.longest
    if point is None:
        return (math.inf, math.inf, line.label)
    value = point.nll if study.comparable_tokens else point.bits_per_byte
    return (-point.length, value if math.isfinite(value) else math.inf, line.label)


def colours(studies: list[Study]) -> dict[str, int]:
    """Line label -> number of its colour and marker, the same in every figure of the report."""
    labels = sorted({line.label for study in studies for line in study.lines})
    return {label: index for index, label in enumerate(labels)}
