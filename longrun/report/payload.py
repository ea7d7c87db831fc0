"""The numbers of the report as plain JSON-able values: the contents of report.json, and the source of the charts.

The keys are a file format: "studies" are protocols, "lines" are curves, "answers" are tasks and needles.
"""

import math
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np

from longrun.report.accuracy import Accuracy, AccuracySeries, TaskResults
from longrun.report.comparisons import Comparison
from longrun.report.load import Evaluation, Run
from longrun.report.protocol_results import ProtocolResults
from longrun.report.series import Point, Series, label_of, perplexity, series_of, variants_of

CURVE_POINTS = 120  # of a training curve; more rows are averaged in equal groups
DETAIL_NATS = 0.15  # the detail panel ends this far above the worst in-domain NLL
DETAIL_RATIO = 2.5  # a detail panel is added if the whole range is larger than the detail by this factor


def payload(
    name: str, runs: list[Run], protocols: list[ProtocolResults], tasks: list[TaskResults], styles: dict[str, int]
) -> dict[str, Any]:
    """The report's numbers. styles: label -> number of its colour and marker. NaN and infinity become None."""
    return finite(
        {
            "name": name,
            "studies": [_protocol(results, styles) for results in protocols],
            "answers": [_task(task, styles) for task in tasks],
            "positions": positions(runs, styles),
            "training": training(runs, styles),
            "training_frame": training_frame(runs),
        }
    )


def finite(value: Any) -> Any:
    """NaN and infinity as None: they are not JSON, and a browser rejects the whole page data for one of them."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _task(task: TaskResults, styles: dict[str, int]) -> dict[str, Any]:
    return {
        "name": task.name,
        "protocol": task.protocol,
        "train_length": task.train_length,
        "lengths": task.lengths,
        "lines": [_accuracy_series(curve, styles[curve.label]) for curve in task.curves],
    }


def _accuracy_series(curve: AccuracySeries, style: int) -> dict[str, Any]:
    points = [{"length": length, **_accuracy(accuracy)} for length, accuracy in sorted(curve.points.items())]
    cells = [
        {"length": n, "depth": depth, **_accuracy(accuracy)} for (n, depth), accuracy in sorted(curve.cells.items())
    ]
    return {"label": curve.label, "colour": style, "seeds": curve.seeds, "points": points, "cells": cells}


def _accuracy(accuracy: Accuracy) -> dict[str, Any]:
    low, high = accuracy.interval
    return {
        "matches": accuracy.matches, "trials": accuracy.trials, "share": accuracy.share, "low": low, "high": high,
    }  # fmt: skip


def _protocol(results: ProtocolResults, styles: dict[str, int]) -> dict[str, Any]:
    return {
        "protocol": results.protocol,
        "scope": results.scope,
        "train_lengths": results.train_lengths,
        "lengths": results.lengths,
        "metrics": ["ppl", "bpb", "gap"] if results.comparable_tokens else ["bpb"],
        "detail": _detail(results),
        "lines": [_series(curve, styles[curve.label], results) for curve in results.curves],
        "pairs": [_comparison(pair) for pair in results.pairs],
        "controls": {label: _comparison(each) for label, each in results.controls.items()},
    }


def _series(curve: Series, style: int, results: ProtocolResults) -> dict[str, Any]:
    return {
        "label": curve.label,
        "scheme": curve.scheme,
        "extension": curve.extension,
        "colour": style,
        "train_length": curve.train_length,
        "seeds": list(curve.runs),
        "usable_length": curve.usable_length(),
        "points": [_point(point, curve) | _intervals(results, curve, point) for point in curve.points.values()],
        "control": _control(curve, results),
        "refused": [{"length": length, "why": why} for length, why in curve.refused.items()],
    }


def _control(curve: Series, results: ProtocolResults) -> list[dict[str, Any]]:
    """Points of the windowed control; listed once per checkpoint, with its curve without extension if there is one."""
    control = curve.control
    if control is None:
        return []
    sharing = [other for other in results.curves if other.control is control]
    owner = next((other for other in sharing if other.extension == "none"), sharing[0])
    return [_point(point, control) for point in control.points.values()] if curve is owner else []


def _point(point: Point, curve: Series) -> dict[str, Any]:
    """Each metric as [value, lowest seed, highest seed]."""
    at_train_length = curve.in_domain
    in_domain = dict(zip(at_train_length.seeds, at_train_length.nll_seeds, strict=True)) if at_train_length else {}
    by_seed = zip(point.seeds, point.nll_seeds, strict=True)
    gaps = [nll - in_domain[seed] for seed, nll in by_seed if seed in in_domain] or [math.nan]
    return {
        "length": point.length,
        "tokens": point.tokens,
        "documents": point.documents,
        "windows": point.windows,
        "nll": point.nll,
        "ppl": [point.ppl, min(point.ppl_seeds), max(point.ppl_seeds)],
        "bpb": [point.bits_per_byte, min(point.bits_seeds), max(point.bits_seeds)],
        "gap": [curve.gap(point.length), min(gaps), max(gaps)],
    }


def _intervals(results: ProtocolResults, curve: Series, point: Point) -> dict[str, Any]:
    key = curve.label, point.length
    nll, gap = results.intervals.get(key), results.gaps.get(key)
    return {
        "nll_interval": [nll.low, nll.high] if nll else None,
        "gap_interval": [gap.difference.low, gap.difference.high] if gap else None,
    }


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return asdict(comparison) | {"significant": comparison.significant}


def _detail(results: ProtocolResults) -> dict[str, float | None]:
    """Upper end of y in the detail panel, per metric; None where one panel shows everything."""
    in_domain = [curve.in_domain for curve in results.curves if curve.in_domain is not None]
    points = [point for curve in results.curves for point in curve.points.values()]
    if not in_domain:
        return {"ppl": None, "bpb": None, "gap": None}
    worst = max(point.nll for point in in_domain) + DETAIL_NATS
    bits = max(point.bits_per_byte for point in in_domain) * worst / max(point.nll for point in in_domain)
    gaps = [gap for curve in results.curves for length in curve.points if (gap := curve.gap(length)) is not None]
    return {
        "ppl": _limit(perplexity(worst), [point.ppl for point in points]),
        "bpb": _limit(bits, [point.bits_per_byte for point in points]),
        "gap": _limit(DETAIL_NATS, gaps),
    }


def _limit(limit: float, values: list[float]) -> float | None:
    """`limit`, or None if the values do not reach far above it."""
    usable = [value for value in values if math.isfinite(value)]
    if not usable or not math.isfinite(limit):
        return None
    low, high = min(usable), max(usable)
    return limit if high - low > DETAIL_RATIO * (limit - low) else None


def positions(runs: list[Run], styles: dict[str, int]) -> dict[str, Any] | None:
    """NLL over the position in the window at the longest length of per_position, or None without that protocol."""
    curves = series_of(runs, "per_position")
    lengths = {length for curve in curves for length in curve.points}
    if not lengths:
        return None
    longest = max(lengths)
    lines = []
    for curve in curves:
        seeds = [bins for each in curve.evaluations.values() if (bins := _position_bins(each, longest))]
        if seeds:
            lines.append({"label": curve.label, "colour": styles.get(curve.label, 0), "points": _over_seeds(seeds)})
    lines.sort(key=lambda line: line["points"][-1]["nll"][0])
    trained = sorted({curve.train_length for curve in curves})
    point = next(curve.points[longest] for curve in curves if longest in curve.points)
    return {
        "length": longest,
        "tokens": point.tokens,
        "documents": point.documents,
        "windows": point.windows,
        "train_lengths": trained,
        "detail": _position_detail(lines, trained[0]),
        "lines": lines,
    }


def _position_detail(lines: list[dict], trained: int) -> float | None:
    """The detail ends a little above the worst curve in the later part of the training length."""
    inside = [p["nll"][0] for line in lines for p in line["points"] if trained / 8 <= p["to"] <= trained]
    everywhere = [p["nll"][0] for line in lines for p in line["points"]]
    return _limit(max(inside) + DETAIL_NATS, everywhere) if inside else None


def _position_bins(evaluation: Evaluation, length: int) -> list[dict[str, Any]]:
    """Bins of half an octave from the per-token file, or the stored buckets where that file is missing."""
    tokens = evaluation.by_position(length)
    if tokens is None:
        buckets = [b for b in evaluation.record.get("buckets", []) if b["length"] == length]
        return [{key: b[key] for key in ("from", "to", "tokens", "nll")} for b in buckets]
    sums, counts = tokens
    steps = int(2 * math.log2(max(2, len(counts))))
    edges = sorted({0, len(counts), *(n for k in range(4, steps + 1) if (n := round(2 ** (k / 2))) < len(counts))})
    bins = [(a, b, float(counts[a:b].sum()), float(sums[a:b].sum())) for a, b in pairwise(edges)]
    return [{"from": a, "to": b, "tokens": int(n), "nll": total / n} for a, b, n, total in bins if n]


def _over_seeds(seeds: list[list[dict]]) -> list[dict[str, Any]]:
    """Bins with "nll" as [token-weighted mean, lowest seed, highest seed]."""
    points = []
    for bins in zip(*seeds, strict=False):
        values = [each["nll"] for each in bins]
        pooled = sum(each["nll"] * each["tokens"] for each in bins) / sum(each["tokens"] for each in bins)
        points.append({**bins[0], "nll": [pooled, min(values), max(values)]})
    return points


def training(runs: list[Run], styles: dict[str, int]) -> list[dict[str, Any]]:
    """One curve per run: [tokens, loss, gradient norm] thinned by averaging, and [tokens, bits per byte]."""
    variants = variants_of(runs)
    curves = []
    for run in runs:
        label = label_of(run.scheme, "none", variants[run.folder])
        valid = [[row.get("tokens"), row.get("valid_bits_per_byte")] for row in run.validation]
        curve = {"label": label, "seed": run.seed, "colour": styles.get(label, 0), "rows": _thin(run.training)}
        curves.append(curve | {"valid": [pair for pair in valid if None not in pair]})
    return [curve for curve in curves if curve["rows"] or curve["valid"]]


def training_frame(runs: list[Run]) -> dict[str, float | None]:
    """Upper ends of the loss and validation axes: the highest value after a tenth of the training.

    The fall from ln(vocabulary) in the first steps would otherwise leave no room for the differences at the end.
    """
    late: dict[str, list[float]] = {"loss": [], "valid_bits_per_byte": []}
    for run in runs:
        for key, rows in (("loss", run.training), ("valid_bits_per_byte", run.validation)):
            pairs = [(row.get("tokens", 0), row[key]) for row in rows if row.get(key) is not None]
            late[key] += [value for tokens, value in pairs if tokens > 0.1 * pairs[-1][0]]
    return {key: max((v for v in values if math.isfinite(v)), default=None) for key, values in late.items()}


def _thin(rows: list[dict]) -> list[list[float]]:
    columns = ("tokens", "loss", "grad_norm")
    table = np.array([[row.get(key, math.nan) for key in columns] for row in rows], np.float64)
    if not len(table):
        return []
    groups = np.array_split(table, min(len(table), CURVE_POINTS))
    return [[round(float(value), 5) for value in group.mean(axis=0)] for group in groups]
