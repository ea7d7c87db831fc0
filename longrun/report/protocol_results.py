"""Everything computed about the curves of one protocol: the input of tables, figures and findings."""

import math
from dataclasses import dataclass, field

from longrun.report import number_format as fmt
from longrun.report.bootstrap import Interval
from longrun.report.comparability import tokenizers
from longrun.report.comparisons import Comparison, against_control, gaps, nll_intervals, pairwise
from longrun.report.load import Run
from longrun.report.series import Series, protocols, series_of


@dataclass
class ProtocolResults:
    """Curves are ranked: lowest NLL at the longest length first, curves that do not reach it last."""

    protocol: str
    curves: list[Series]
    pairs: list[Comparison] = field(default_factory=list)
    controls: dict[str, Comparison] = field(default_factory=dict)
    gaps: dict[tuple[str, int], Comparison] = field(default_factory=dict)
    intervals: dict[tuple[str, int], Interval] = field(default_factory=dict)

    @property
    def comparable_tokens(self) -> bool:
        """True with a single tokenizer, where perplexities are comparable; otherwise only bits per byte are."""
        return len(tokenizers(self.curves)) == 1

    @property
    def lengths(self) -> list[int]:
        return sorted({n for curve in self.curves for n in (*curve.points, *curve.refused)})

    @property
    def train_lengths(self) -> list[int]:
        return sorted({curve.train_length for curve in self.curves})

    @property
    def train_length(self) -> int | None:
        """The training length if all curves share it."""
        return self.train_lengths[0] if len(self.train_lengths) == 1 else None

    @property
    def several_seeds(self) -> bool:
        return any(len(curve.runs) > 1 for curve in self.curves)

    def length_name(self, length: int) -> str:
        """2,048 tokens (16×)."""
        ratio = f" ({fmt.ratio(length, self.train_length)})" if self.train_length else ""
        return f"{length:,} tokens{ratio}"

    @property
    def scope(self) -> str:
        """Protocol and sample size, for the notes of tables and figures."""
        points = [point for curve in self.curves for point in curve.points.values()]
        tokens, documents, windows = (
            _range([getattr(point, name) for point in points]) for name in ("tokens", "documents", "windows")
        )
        seeds = _range([len(curve.runs) for curve in self.curves])
        same = "the same " if self.protocol == "fixed_targets" and self.comparable_tokens else ""
        texts = f" of {documents} documents" if documents != "0" else ""
        fed = f" in {windows} windows" if windows != "0" else ""
        return (
            f"protocol {self.protocol}, {same}{tokens} target tokens{texts}{fed} at each length, "
            f"{seeds} seed{'' if seeds == '1' else 's'}"
        )


def _range(values: list[int]) -> str:
    low, high = min(values, default=0), max(values, default=0)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def results_of(runs: list[Run]) -> list[ProtocolResults]:
    """Results per protocol, the leading protocol first. per_position is included only if it is the only one."""
    names = protocols(runs)
    return [_results(runs, name) for name in [name for name in names if name != "per_position"] or names]


def _results(runs: list[Run], protocol: str) -> ProtocolResults:
    results = ProtocolResults(protocol, series_of(runs, protocol))
    results.curves.sort(key=lambda curve: _rank(curve, results.comparable_tokens))
    results.pairs = pairwise(results.curves)
    results.controls = against_control(results.curves)
    results.gaps = gaps(results.curves)
    results.intervals = nll_intervals(results.curves)
    return results


def _rank(curve: Series, comparable_tokens: bool) -> tuple[float, float, str]:
    point = curve.longest
    if point is None:
        return (math.inf, math.inf, curve.label)
    value = point.nll if comparable_tokens else point.bits_per_byte
    return (-point.length, value if math.isfinite(value) else math.inf, curve.label)
