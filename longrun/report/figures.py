"""The report's figures as PNG and SVG, drawn by matplotlib from their descriptions (charts.py)."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no display on a cluster node

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator, PercentFormatter

from longrun.report import number_format as fmt
from longrun.report.charts import Axis, Chart, Figure, HeatMap, Series
from longrun.report.palette import LIGHT, MARKERS, colour, marker

LOG_RANGE = 8  # ratio of the largest to the smallest value from which y is drawn logarithmically
ACROSS = 3  # small panels per row
RULE = "#6b6b76"
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6ea",
    "grid.linewidth": 0.6,
    "axes.edgecolor": "#8a8a94",
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "lines.linewidth": 1.7,
    "lines.markersize": 4.5,
    "savefig.bbox": "tight",
    "svg.hashsalt": "longrun",  # the same numbers give the same file
}


def write_figures(figures: list[Figure], folder: Path) -> list[Path]:
    """Draw every figure into `folder` as PNG and SVG; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    with matplotlib.rc_context(STYLE):
        for figure in figures:
            canvas = _heat_maps(figure.heat_maps) if figure.heat_maps else _charts(figure)
            files += _save(canvas, folder / figure.stem)
    return files


def _save(canvas: Canvas, stem: Path) -> list[Path]:
    files = [stem.with_suffix(kind) for kind in (".png", ".svg")]
    for file in files:
        metadata = {"Date": None} if file.suffix == ".svg" else None
        canvas.savefig(file, dpi=180, metadata=metadata)
    pyplot.close(canvas)
    return files


def _charts(figure: Figure) -> Canvas:
    """One panel per chart, two where the chart has a detail; small ones where each chart has its own title."""
    small = any(chart.title for chart in figure.charts)
    panels = [
        (chart, detail) for chart in figure.charts for detail in ([False] if chart.detail is None else [False, True])
    ]
    canvas, axes = _grid(len(panels), 3.6, 2.8) if small else _grid(len(panels), 5.0, 3.8)
    for ax, (chart, detail) in zip(axes, panels, strict=True):
        _draw(ax, chart, detail)
    entries = {name: handle for ax in axes for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    canvas.tight_layout(w_pad=2)
    canvas.legend(list(entries.values()), list(entries), loc="upper left", bbox_to_anchor=(1.0, 0.95))
    return canvas


def _grid(count: int, width: float, height: float) -> tuple[Canvas, list[Axes]]:
    rows, columns = -(-count // ACROSS), min(count, ACROSS)
    canvas, axes = pyplot.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False)
    for ax in axes.flat[count:]:
        ax.set_axis_off()
    return canvas, list(axes.flat[:count])


def _draw(ax: Axes, chart: Chart, detail: bool) -> None:
    for series in chart.series:
        _draw_series(ax, series)
    for length in chart.train_lengths:
        ax.axvline(length, color=RULE, linewidth=1, linestyle=":", zorder=1)
        ax.annotate(
            f"trained at {length:,}", (length, 1), xycoords=("data", "axes fraction"), xytext=(3, -2),
            textcoords="offset points", fontsize=7.5, color=RULE, va="top",
        )  # fmt: skip
    _x_axis(ax, chart.x)
    values = [y for series in chart.series for _, y, _, _ in series.points if y is not None]
    _y_axis(ax, chart.y, chart.y.log and not detail and bool(values) and max(values) > LOG_RANGE * min(values))
    ax.set_title(chart.title)
    if chart.detail is not None:
        ax.set_title("Detail of the lower end" if detail else "Whole range")
    if detail and chart.detail is not None:
        ax.set_ylim(min(values) - 0.06 * (chart.detail - min(values)), chart.detail)
        ax.set_ylabel("")


def _draw_series(ax: Axes, series: Series) -> None:
    shade = LIGHT[colour(series.style)]
    look: dict[str, Any] = {"color": shade, "label": series.label if series.in_legend else None, "zorder": 3}
    if series.thin:
        look["linewidth"] = 1.2
    else:
        look |= {"marker": MARKERS[marker(series.style)], "markeredgecolor": "white", "markeredgewidth": 0.6}
    points: list[Any] = [point for point in series.points if point[1] is not None]
    x, y = [point[0] for point in points], [point[1] for point in points]
    ax.plot(x, y, **look)
    if series.band:
        low, high = ([point[i] for point in points] for i in (2, 3))
        ax.fill_between(x, low, high, color=shade, alpha=0.16, linewidth=0, zorder=2)
    control: list[Any] = [point for point in series.control if point[1] is not None]
    dashes: Any = (0, (3, 2))
    ax.plot([p[0] for p in control], [p[1] for p in control], color=shade, linestyle=dashes, linewidth=1.0, zorder=2)


def _x_axis(ax: Axes, axis: Axis) -> None:
    if axis.log:
        ax.set_xscale("log", base=2)
    ax.set_xticks([value for value, _, _ in axis.ticks], [f"{text}\n{sub}".strip() for _, text, sub in axis.ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(axis.label)


def _y_axis(ax: Axes, axis: Axis, log: bool) -> None:
    ax.set_ylabel(axis.label)
    if log:
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
    if axis.format == "percent":
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    bottom, top = axis.range
    if bottom is not None:
        ax.set_ylim(bottom=bottom)
    if top is not None:
        ax.set_ylim(top=top)


def _heat_maps(maps: list[HeatMap]) -> Canvas:
    """One panel per curve, each cell with its accuracy in per cent."""
    canvas, axes = _grid(len(maps), 3.4, 2.6)
    for ax, heat_map in zip(axes, maps, strict=True):
        ax.imshow(heat_map.shares, vmin=0, vmax=1, cmap="viridis", aspect="auto")
        for y, row in enumerate(heat_map.shares):
            for x, share in enumerate(row):
                if share == share:  # not NaN
                    ink = "white" if share < 0.6 else "black"
                    ax.text(x, y, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=ink)
        ax.grid(visible=False)
        ax.set_xticks(range(len(heat_map.lengths)), [f"{n:,}" for n in heat_map.lengths])
        ax.set_yticks(range(len(heat_map.depths)), [fmt.share(depth) for depth in heat_map.depths])
        ax.set_xlabel("tokens")
        ax.set_ylabel("depth")
        ax.set_title(heat_map.title)
    canvas.tight_layout()
    return canvas
