"""Everything the figures draw, as plain JSON-able values: written to report.json, embedded in the page, read by
matplotlib. A value that is not finite becomes null.
"""

import math
from dataclasses import asdict
from itertools import pairwise

import numpy as np

from longrun.report.accuracy import AnswerLine, Count, Exam
from longrun.report.comparisons import Comparison
from longrun.report.load import Evaluation, Run
from longrun.report.series import Line, Point, lines_of, perplexity, variants_of
from longrun.report.study import Study

CURVE_POINTS = 120  # of a training curve; more rows are averaged in equal groups
DETAIL_NATS = 0.15  # the detail panel ends this far above the worst in-domain NLL


def payload(name: str, runs: list[Run], studies: list[Study], exams: list[Exam], colours: dict[str, int]) -> dict:
    """The whole report as one dictionary."""
    return finite(
        {
            "name": name,
            "studies": [_study(study, colours) for study in studies],
            "answers": [_exam(exam, colours) for exam in exams],
            "positions": positions(runs, colours),
            "training": training(runs, colours),
            "training_frame": training_frame(runs),
        }
    )


def _exam(exam: Exam, colours: dict[str, int]) -> dict:
    return {
        "name": exam.name,
        "protocol": exam.protocol,
        "train_length": exam.train_length,
        "lengths": exam.lengths,
        "lines": [_answers(line, colours[line.label]) for line in exam.lines],
    }


def _answers(line: AnswerLine, colour: int) -> dict:
    points = [{"length": length, **_count(count)} for length, count in sorted(line.points.items())]
    cells = [{"length": place[0], "depth": place[1], **_count(count)} for place, count in sorted(line.cells.items())]
    return {"label": line.label, "colour": colour, "seeds": line.seeds, "points": points, "cells": cells}


def _count(count: Count) -> dict:
    low, high = count.interval
    return {"matches": count.matches, "trials": count.trials, "share": count.share, "low": low, "high": high}


def finite(value: object) -> object:
    """NaN and infinity as None: they are not JSON, and a browser refuses the whole page data for one of them."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _study(study: Study, colours: dict[str, int]) -> dict:
    lines = [_line(line, colours[line.label], study) for line in study.lines]
    return {
        "protocol": study.protocol,
        "scope": study.scope,
        "train_lengths": study.train_lengths,
        "lengths": study.lengths,
        "metrics": ["ppl", "bpb", "gap"] if study.comparable_tokens else ["bpb"],
        "detail": _detail(study),
        "lines": lines,
        "pairs": [_comparison(pair) for pair in study.pairs],
        "controls": {label: _comparison(each) for label, each in study.controls.items()},
    }


def _line(line: Line, colour: int, study: Study) -> dict:
    sharing = [other for other in study.lines if other.control is line.control]
    owner = next((other for other in sharing if other.extension == "none"), sharing[0])
    owns_control = line.control is not None and line is owner  # one control per checkpoint, drawn once
    return {
        "label": line.label,
        "scheme": line.scheme,
        "extension": line.extension,
        "colour": colour,
        "train_length": line.train_length,
        "seeds": list(line.runs),
        "usable_length": line.usable(),
        "points": [_point(point, line) | _intervals(study, line, point) for point in line.points.values()],
        "control": [_point(point, line.control) for point in line.control.points.values()] if owns_control else [],
        "refused": [{"length": length, "why": why} for length, why in line.refused.items()],
    }


def _point(point: Point, line: Line) -> dict:
    """Each metric as [value, lowest seed, highest seed]."""
    home = dict(zip(line.home.seeds, line.home.nll_seeds, strict=True)) if line.home else {}
    pairs = zip(point.seeds, point.nll_seeds, strict=True)
    gaps = [nll - home[seed] for seed, nll in pairs if seed in home] or [math.nan]
    return {
        "length": point.length,
        "tokens": point.tokens,
        "documents": point.documents,
        "windows": point.windows,
        "nll": point.nll,
        "ppl": [point.ppl, min(point.ppl_seeds), max(point.ppl_seeds)],
        "bpb": [point.bits_per_byte, min(point.bits_seeds), max(point.bits_seeds)],
        "gap": [line.gap(point.length), min(gaps), max(gaps)],
    }


def _intervals(study: Study, line: Line, point: Point) -> dict:
    nll, gap = study.intervals.get((line.label, point.length)), study.gaps.get((line.label, point.length))
    return {
        "nll_interval": [nll.low, nll.high] if nll else None,
        "gap_interval": [gap.difference.low, gap.difference.high] if gap else None,
    }


def _comparison(comparison: Comparison) -> dict:
    return asdict(comparison) | {"significant": comparison.significant}


def _detail(study: Study) -> dict[str, float | None]:
    """Where the detail panel ends on the y axis, per metric; None where one panel shows everything."""
    homes = [line.home for line in study.lines if line.home is not None]
    points = [point for line in study.lines for point in line.points.values()]
    if not homes:
        return {"ppl": None, "bpb": None, "gap": None}
    worst = max(home.nll for home in homes) + DETAIL_NATS
    bits = max(home.bits_per_byte for home in homes) * worst / max(home.nll for home in homes)
    gaps = [gap for line in study.lines for length in line.points if (gap := line.gap(length)) is not None]
    return {
        "ppl": _limit(perplexity(worst), [point.ppl for point in points]),
        "bpb": _limit(bits, [point.bits_per_byte for point in points]),
        "gap": _limit(DETAIL_NATS, gaps),
    }


def _limit(limit: float, values: list[float]) -> float | None:
    known = [value for value in values if math.isfinite(value)]
    if not known or not math.isfinite(limit):
        return None
    low, high = min(known), max(known)
    return limit if high - low > 2.5 * (limit - low) else None


def positions(runs: list[Run], colours: dict[str, int]) -> dict | None:
    """NLL over the position in the window at the longest length of per_position, or None if nobody ran it."""
    lines = lines_of(runs, "per_position")
    lengths = {length for line in lines for length in line.points}
    if not lengths:
        return None
    longest = max(lengths)
    curves = []
    for line in lines:
        seeds = [curve for each in line.evaluations.values() if (curve := _position_curve(each, longest))]
        if seeds:
            curves.append({"label": line.label, "colour": colours.get(line.label, 0), "points": _over_seeds(seeds)})
    curves.sort(key=lambda curve: curve["points"][-1]["nll"][0])
    trained = sorted({line.train_length for line in lines})
    point = next(line.points[longest] for line in lines if longest in line.points)
    return {
        "length": longest,
        "tokens": point.tokens,
        "documents": point.documents,
        "windows": point.windows,
        "train_lengths": trained,
        "detail": _position_detail(curves, trained[0]),
        "lines": curves,
    }


def _position_detail(curves: list[dict], trained: int) -> float | None:
    """The detail ends a little above the worst line in the later part of the training length."""
    inside = [p["nll"][0] for curve in curves for p in curve["points"] if trained / 8 <= p["to"] <= trained]
    return _limit(max(inside) + DETAIL_NATS, [p["nll"][0] for c in curves for p in c["points"]]) if inside else None


def _position_curve(evaluation: Evaluation, length: int) -> list[dict]:
    """Bins of half an octave from the per-token file, or the stored buckets where that file is missing."""
    tokens = evaluation.positions(length)
    if tokens is None:
        stored = [b for b in evaluation.record.get("buckets", []) if b["length"] == length]
        return [{key: b[key] for key in ("from", "to", "tokens", "nll")} for b in stored]
    sums, counts = tokens
    steps = int(2 * math.log2(max(2, len(counts))))
    edges = sorted({0, len(counts), *(n for k in range(4, steps + 1) if (n := round(2 ** (k / 2))) < len(counts))})
    bins = [(a, b, float(counts[a:b].sum()), float(sums[a:b].sum())) for a, b in pairwise(edges)]
    return [{"from": a, "to": b, "tokens": int(n), "nll": total / n} for a, b, n, total in bins if n]


def _over_seeds(seeds: list[list[dict]]) -> list[dict]:
    points = []
    for parts in zip(*seeds, strict=False):
        values = [part["nll"] for part in parts]
        pooled = sum(part["nll"] * part["tokens"] for part in parts) / sum(part["tokens"] for part in parts)
        points.append({**parts[0], "nll": [pooled, min(values), max(values)]})
    return points


def training(runs: list[Run], colours: dict[str, int]) -> list[dict]:
    """One curve per run: [tokens, loss, gradient norm] thinned by averaging, and [tokens, bits per byte]."""
    variants = variants_of(runs)
    curves = []
    for run in runs:
        label = Line(run.scheme, "none", variants[run.folder], "").label
        valid = [[row.get("tokens"), row.get("valid_bits_per_byte")] for row in run.validation]
        curve = {"label": label, "seed": run.seed, "colour": colours.get(label, 0), "rows": _thin(run.training)}
        curves.append(curve | {"valid": [pair for pair in valid if None not in pair]})
    return [curve for curve in curves if curve["rows"] or curve["valid"]]


def training_frame(runs: list[Run]) -> dict[str, float | None]:
    """Where the loss and validation axes end: the highest value after a tenth of the training.

    The fall from ln(vocabulary) in the first steps would otherwise leave no room for the differences at the end.
    """
    late: dict[str, list[float]] = {"loss": [], "valid_bits_per_byte": []}
    for run in runs:
        for key, rows in (("loss", run.training), ("valid_bits_per_byte", run.validation)):
            known = [(row.get("tokens", 0), row[key]) for row in rows if row.get(key) is not None]
            late[key] += [value for tokens, value in known if tokens > 0.1 * known[-1][0]]
    return {key: max((v for v in values if math.isfinite(v)), default=None) for key, values in late.items()}


def _thin(rows: list[dict]) -> list[list[float]]:
    table = np.array([[row.get(key, math.nan) for key in ("tokens", "loss", "grad_norm")] for row in rows], np.float64)
    if not len(table):
        return []
    groups = np.array_split(table, min(len(table), CURVE_POINTS))
    return [[round(float(value), 5) for value in group.mean(axis=0)] for group in groups]
