"""Descriptions of the report's figures, computed once from the payload.

The page (assets/page.js) and the files in figures/ (figures.py) draw the same descriptions: title, caption, axes,
reference lines and series with their style numbers. Nothing here depends on a renderer.
"""

import math
from dataclasses import dataclass, field

from longrun.report import number_format as fmt
from longrun.report.captions import (
    ACCURACY_CAPTION,
    FILES,
    NAMES,
    NEEDLE_CAPTION,
    SHORT_NAMES,
    TRAINING_CAPTION,
    length_caption,
    position_caption,
)

THIN_ABOVE = 24  # points of a position curve from which it is drawn without markers
Tick = tuple[float, str, str]  # value, label, second line of the label
Values = tuple[float, float | None, float | None, float | None]  # x, y, lower and upper end of the band


@dataclass(frozen=True)
class Axis:
    """`log`: x is logarithmic; y may be drawn so, at the choice of the reader or by the range of the values."""

    label: str
    log: bool = False
    ticks: list[Tick] = field(default_factory=list)  # empty: chosen by the renderer
    range: tuple[float | None, float | None] = (None, None)  # ends of the frame; None: chosen by the renderer
    format: str = "decimals"  # perplexity, decimals, signed or percent
    short: str = ""  # column title beside the pointer
    pointer: str = "{} tokens"  # text of an x value beside the pointer


@dataclass(frozen=True)
class Series:
    """`style`: number of its colour and marker, see palette.  `name`: label beside the pointer, if another."""

    label: str
    style: int
    points: list[Values]
    control: list[Values] = field(default_factory=list)  # dashed, without markers
    band: bool = False
    thin: bool = False  # without markers
    in_legend: bool = True
    name: str = ""
    ending: str = ""  # label where the series ends before the others


@dataclass(frozen=True)
class Chart:
    """A line chart. `detail`: upper end of y in a second panel that enlarges the lower end, or None."""

    x: Axis
    y: Axis
    series: list[Series]
    title: str = ""
    description: str = ""  # for screen readers
    train_lengths: list[int] = field(default_factory=list)  # vertical reference lines
    detail: float | None = None


@dataclass(frozen=True)
class HeatMap:
    """Accuracy by depth (rows) and length (columns); NaN where there was no trial."""

    title: str
    lengths: list[int]
    depths: list[float]
    shares: list[list[float]]


@dataclass(frozen=True)
class Figure:
    """`stem`: name of the file in figures/ without .png or .svg.  `study`, `metric`: place of a length figure.

    `alternatives`: charts that the page can show in place of the first one.
    """

    stem: str
    title: str
    caption: str
    charts: list[Chart] = field(default_factory=list)
    heat_maps: list[HeatMap] = field(default_factory=list)
    alternatives: list[Chart] = field(default_factory=list)
    study: int = 0
    metric: str = ""


def figures_of(payload: dict) -> list[Figure]:
    """Every figure that has data, in reading order."""
    figures = []
    for index, results in enumerate(payload["studies"]):
        suffix = "" if index == 0 else f"_{results['protocol']}"
        for metric in results["metrics"]:
            title = f"{'Gap' if metric == 'gap' else NAMES[metric].capitalize()} against evaluation length"
            chart, caption = length_chart(results, metric), length_caption(results, metric)
            figures.append(Figure(FILES[metric] + suffix, title, caption, [chart], study=index, metric=metric))
    if payload["positions"]:
        chart, caption = position_chart(payload["positions"]), position_caption(payload["positions"])
        figures.append(Figure("nll_by_position", "NLL by position in the window", caption, [chart]))
    figures += _accuracy_figures(payload["answers"])
    if payload["training"]:
        loss, gradient, validation = training_charts(payload["training"], payload["training_frame"])
        charts = [loss, validation]
        figures.append(Figure("training", "Training curves", TRAINING_CAPTION, charts, alternatives=[gradient]))
    return figures


def _accuracy_figures(tasks: list[dict]) -> list[Figure]:
    figures = []
    exact = [task for task in tasks if task["protocol"] == "exact_match"]
    if exact:
        charts = [accuracy_chart(task) for task in exact]
        figures.append(Figure("exact_match", "Accuracy against length", ACCURACY_CAPTION, charts))
    for task in tasks:
        maps = [heat_map(line) for line in task["lines"] if line["cells"]]
        if maps:
            figures.append(Figure(task["name"], f"Retrieval: {task['name']}", NEEDLE_CAPTION, heat_maps=maps))
    return figures


def length_chart(results: dict, metric: str) -> Chart:
    trained = results["train_lengths"]
    formats = {"ppl": "perplexity", "bpb": "decimals", "gap": "signed"}
    ratios = [fmt.ratio(n, trained[0]) if len(trained) == 1 else "" for n in results["lengths"]]
    ticks = [(n, f"{n:,}", ratio) for n, ratio in zip(results["lengths"], ratios, strict=True)]
    return Chart(
        x=Axis("evaluation length (tokens, log scale)", log=True, ticks=ticks),
        y=Axis(NAMES[metric], log=metric != "gap", format=formats[metric], short=SHORT_NAMES[metric]),
        series=[_length_series(line, metric) for line in results["lines"]],
        description=f"{NAMES[metric]} against evaluation length, {len(results['lines'])} lines; the numbers are in the "
        "table below",
        train_lengths=trained,
        detail=results["detail"][metric],
    )


def _length_series(line: dict, metric: str) -> Series:
    refused = f": n/a from {line['refused'][0]['length']:,}" if line["refused"] else ""
    points, control = ([(p["length"], *p[metric]) for p in line[key]] for key in ("points", "control"))
    several = len(line["seeds"]) > 1
    return Series(line["label"], line["colour"], points, control, band=several, ending=line["label"] + refused)


def position_chart(positions: dict) -> Chart:
    ticks = [(2**k, f"{2**k:,}", "") for k in range(3, int(math.log2(positions["length"])) + 1)]
    return Chart(
        x=Axis("position in the window (tokens, log scale)", log=True, ticks=ticks, pointer="around position {}"),
        y=Axis("NLL (nats per token)", short="NLL"),
        series=[_position_series(line) for line in positions["lines"]],
        description="NLL per token against the position in the window, one line per scheme",
        train_lengths=positions["train_lengths"],
        detail=positions["detail"],
    )


def _position_series(line: dict) -> Series:
    points = [(math.sqrt(max(1, (p["from"] + 1) * p["to"])), *p["nll"]) for p in line["points"]]
    return Series(line["label"], line["colour"], points, band=True, thin=len(points) > THIN_ABOVE)


def training_charts(runs: list[dict], frame: dict) -> tuple[Chart, Chart, Chart]:
    """Loss, gradient norm, and validation bits per byte against training tokens."""
    loss = _training_chart("training loss (nats per token)", runs, "rows", 1, frame["loss"])
    gradient = _training_chart("gradient norm", runs, "rows", 2, None)
    validation = _training_chart("validation bits per byte", runs, "valid", 1, frame["valid_bits_per_byte"])
    return loss, gradient, validation


def _training_chart(label: str, runs: list[dict], key: str, column: int, top: float | None) -> Chart:
    series, labels = [], set()
    for run in runs:
        points: list[Values] = [(row[0], row[column], None, None) for row in run[key]]
        if points:
            name = f"{run['label']}, seed {run['seed']}"
            first = run["label"] not in labels
            labels.add(run["label"])
            thin = key == "rows"
            series.append(Series(run["label"], run["colour"], points, thin=thin, in_legend=first, name=name))
    tokens = [row[0] for run in runs for row in (*run["rows"], *run["valid"])]
    return Chart(
        x=Axis("training tokens", ticks=_token_ticks(max(tokens))),
        y=Axis(label, range=(None, top), short=label),
        series=series,
        description=f"{label} against training tokens, one line per run",
    )


def _token_ticks(end: float) -> list[Tick]:
    power = 10 ** math.floor(math.log10(end))
    step = 10 ** math.floor(math.log10(end / 2)) * (4 if end / power > 8 else 1)
    values = [n * step for n in range(min(12, int(end / step) + 1))]
    return [(value, fmt.short(value), "") for value in values[:: 2 if len(values) > 8 else 1]]


def accuracy_chart(task: dict) -> Chart:
    trained = task["train_length"]
    shown = [n for n in task["lengths"] if n in (trained, 2 * trained, 4 * trained, 8 * trained, 16 * trained)]
    return Chart(
        x=Axis("tokens", log=True, ticks=[(n, f"{n:,}", fmt.ratio(n, trained)) for n in shown]),
        y=Axis("", range=(-0.03, 1.03), format="percent"),
        series=[
            Series(
                line["label"],
                line["colour"],
                [(p["length"], p["share"], p["low"], p["high"]) for p in line["points"]],
                band=True,
            )
            for line in task["lines"]
        ],
        title=task["name"],
        train_lengths=[trained],
    )


def heat_map(line: dict) -> HeatMap:
    lengths, depths = (sorted({cell[key] for cell in line["cells"]}) for key in ("length", "depth"))
    share = {(cell["depth"], cell["length"]): cell["share"] for cell in line["cells"]}
    return HeatMap(line["label"], lengths, depths, [[share.get((d, n), math.nan) for n in lengths] for d in depths])
