"""The report's figures as PNG and SVG, drawn by matplotlib from the report's payload (see report_payload)."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no display on a cluster node

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from longrun.report import number_format as fmt
from longrun.report.accuracy_figures import heat_maps, tasks
from longrun.report.captions import NAMES, figures_of
from longrun.report.palette import LIGHT, MARKERS, colour, marker

LOG_RANGE = 8  # largest over smallest value from which the y axis of a perplexity is logarithmic
STYLE = {
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


def write_figures(payload: dict, folder: Path) -> list[Path]:
    """Draw every figure of report_captions.figures_of into `folder`; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with matplotlib.rc_context(STYLE):
        for figure in figures_of(payload):
            if figure.metric:
                drawn = _lengths(payload["studies"][figure.study], figure.metric)
            elif figure.stem == "training":
                drawn = _training(payload["training"], payload["training_frame"])
            elif figure.stem == "nll_by_position":
                drawn = _positions(payload["positions"])
            else:
                drawn = _answers(payload["answers"], figure.stem)
            written += _save(drawn, folder / figure.stem)
    return written


def _answers(exams: list[dict], stem: str) -> pyplot.Figure:
    asked = [exam for exam in exams if stem in (exam["name"], exam["protocol"])]
    return tasks(asked) if stem == "exact_match" else heat_maps(asked[0])


def _save(figure: pyplot.Figure, stem: Path) -> list[Path]:
    files = [stem.with_suffix(kind) for kind in (".png", ".svg")]
    for file in files:
        metadata = {"Date": None} if file.suffix == ".svg" else None
        figure.savefig(file, dpi=180, metadata=metadata)
    pyplot.close(figure)
    return files


def _look(line: dict) -> dict:
    return {"color": LIGHT[colour(line["colour"])], "marker": MARKERS[marker(line["colour"])]}


def _lengths(study: dict, metric: str) -> pyplot.Figure:
    limit = study["detail"][metric]
    panels = 1 if limit is None else 2
    figure, axes = pyplot.subplots(1, panels, figsize=(5.6 * panels - 1.2 * (panels - 1), 3.8), squeeze=False)
    values = [value for line in study["lines"] for point in line["points"] if (value := point[metric][0]) is not None]
    for index, ax in enumerate(axes[0]):
        _draw_lengths(ax, study, metric)
        _length_axis(ax, study)
        if index == 0 and metric != "gap" and values and max(values) > LOG_RANGE * min(values):
            _log_axis(ax)
        if index == 1:
            low = min(values)
            ax.set_ylim(low - 0.06 * (limit - low), limit)
    axes[0][0].set_ylabel(NAMES[metric])
    axes[0][0].set_title("whole range" if panels == 2 else "")
    if panels == 2:
        axes[0][1].set_title("detail of the lower end")
    handles, names = axes[0][0].get_legend_handles_labels()
    figure.tight_layout(w_pad=2)
    figure.legend(handles, names, loc="upper left", bbox_to_anchor=(1.0, 0.95))
    return figure


def _draw_lengths(ax: Axes, study: dict, metric: str) -> None:
    for line in study["lines"]:
        look = _look(line)
        points = [point for point in line["points"] if point[metric][0] is not None]
        lengths = [point["length"] for point in points]
        value, low, high = ([point[metric][i] for point in points] for i in range(3))
        ax.plot(lengths, value, label=line["label"], zorder=3, markeredgecolor="white", markeredgewidth=0.6, **look)
        if len(line["seeds"]) > 1:
            ax.fill_between(lengths, low, high, color=look["color"], alpha=0.16, linewidth=0, zorder=2)
        control = [point for point in line["control"] if point[metric][0] is not None]
        xs, ys = [point["length"] for point in control], [point[metric][0] for point in control]
        ax.plot(xs, ys, color=look["color"], linestyle=(0, (3, 2)), linewidth=1.0, zorder=2)


def _length_axis(ax: Axes, study: dict) -> None:
    lengths, trained = study["lengths"], study["train_lengths"]
    ax.set_xscale("log", base=2)
    names = [f"{n:,}" + (f"\n{fmt.ratio(n, trained[0])}" if len(trained) == 1 else "") for n in lengths]
    ax.set_xticks(lengths, names)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("evaluation length (tokens)")
    for length in trained:
        ax.axvline(length, color="#6b6b76", linewidth=1, linestyle=":", zorder=1)
        ax.annotate(
            "trained", (length, 1), xycoords=("data", "axes fraction"), xytext=(3, -2), textcoords="offset points",
            fontsize=7.5, color="#6b6b76", va="top",
        )  # fmt: skip


def _log_axis(ax: Axes) -> None:
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _positions(positions: dict) -> pyplot.Figure:
    limit = positions["detail"]
    panels = 1 if limit is None else 2
    figure, axes = pyplot.subplots(1, panels, figsize=(5.6 * panels - 1.2 * (panels - 1), 3.8), squeeze=False)
    for ax in axes[0]:
        _draw_positions(ax, positions)
    axes[0][0].set_ylabel("NLL (nats per token)")
    if limit is not None:
        low = min(point["nll"][0] for line in positions["lines"] for point in line["points"])
        axes[0][1].set_ylim(low - 0.06 * (limit - low), limit)
        axes[0][1].set_title("detail of the lower end")
    figure.tight_layout(w_pad=2)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="upper left", bbox_to_anchor=(1.0, 0.95))
    return figure


def _draw_positions(ax: Axes, positions: dict) -> None:
    for line in positions["lines"]:
        look = _look(line)
        xs = [max(1.0, (point["from"] + 1) * point["to"]) ** 0.5 for point in line["points"]]
        value, low, high = ([point["nll"][i] for point in line["points"]] for i in range(3))
        ax.plot(xs, value, label=line["label"], color=look["color"], marker=look["marker"], markersize=3)
        ax.fill_between(xs, low, high, color=look["color"], alpha=0.16, linewidth=0)
    for length in positions["train_lengths"]:
        ax.axvline(length, color="#6b6b76", linewidth=1, linestyle=":")
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.set_xlabel(f"position in the window of {positions['length']:,} tokens")


def _training(curves: list[dict], frame: dict) -> pyplot.Figure:
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.6))
    seen = set()
    for curve in curves:
        shade = LIGHT[colour(curve["colour"])]
        label = None if curve["label"] in seen else curve["label"]
        seen.add(curve["label"])
        left.plot([row[0] for row in curve["rows"]], [row[1] for row in curve["rows"]], color=shade, lw=1, label=label)
        tokens, bits = ([row[i] for row in curve["valid"]] for i in (0, 1))
        right.plot(tokens, bits, color=shade, marker=MARKERS[marker(curve["colour"])], lw=1, ms=3)
    left.set_ylabel("training loss (nats per token)")
    right.set_ylabel("validation bits per byte")
    for ax, key in ((left, "loss"), (right, "valid_bits_per_byte")):
        if frame[key] is not None:
            ax.set_ylim(top=frame[key])
        ax.set_xlabel("training tokens")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: fmt.short(value)))
    figure.tight_layout(w_pad=2)
    figure.legend(loc="upper left", bbox_to_anchor=(1.0, 0.95))
    return figure
