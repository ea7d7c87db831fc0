"""Figures of right answers: exact match against length for every task, heat maps for needles."""

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator, PercentFormatter

from longrun.report import number_format as fmt
from longrun.report.palette import LIGHT, MARKERS, colour, marker

ACROSS = 3  # panels beside each other


def tasks(exams: list[dict]) -> pyplot.Figure:
    figure, axes = _panels(len(exams), 3.6, 2.8)
    for ax, exam in zip(axes, exams, strict=True):
        for line in exam["lines"]:
            look = {"color": LIGHT[colour(line["colour"])], "marker": MARKERS[marker(line["colour"])]}
            lengths = [point["length"] for point in line["points"]]
            share, low, high = ([point[key] for point in line["points"]] for key in ("share", "low", "high"))
            ax.plot(lengths, share, label=line["label"], markeredgecolor="white", markeredgewidth=0.6, zorder=3, **look)
            ax.fill_between(lengths, low, high, color=look["color"], alpha=0.14, linewidth=0, zorder=2)
        _lengths(ax, exam)
        ax.set_ylim(-0.03, 1.03)
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        ax.set_title(exam["name"])
    handles = {name: handle for ax in axes for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.tight_layout()
    figure.legend(handles.values(), handles.keys(), loc="upper left", bbox_to_anchor=(1.0, 0.97))
    return figure


def _lengths(ax: Axes, exam: dict) -> None:
    ax.set_xscale("log", base=2)
    trained = exam["train_length"]
    shown = [n for n in exam["lengths"] if n in (trained, 2 * trained, 4 * trained, 8 * trained, 16 * trained)]
    ax.set_xticks(shown, [f"{n:,}\n{fmt.ratio(n, trained)}" for n in shown])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.axvline(trained, color="#6b6b76", linewidth=1, linestyle=":", zorder=1)
    ax.set_xlabel("tokens")


def heat_maps(exam: dict) -> pyplot.Figure:
    """One panel a line: depth against length, each cell with its share of right answers."""
    lines = [line for line in exam["lines"] if line["cells"]]
    figure, axes = _panels(len(lines), 3.4, 2.6)
    for ax, line in zip(axes, lines, strict=True):
        lengths, depths = (sorted({cell[key] for cell in line["cells"]}) for key in ("length", "depth"))
        share = {(cell["depth"], cell["length"]): cell["share"] for cell in line["cells"]}
        grid = [[share.get((depth, n), float("nan")) for n in lengths] for depth in depths]
        ax.imshow(grid, vmin=0, vmax=1, cmap="viridis", aspect="auto")
        for y, row in enumerate(grid):
            for x, value in enumerate(row):
                if value == value:
                    shade = "white" if value < 0.6 else "black"
                    ax.text(x, y, f"{100 * value:.0f}", ha="center", va="center", fontsize=7, color=shade)
        ax.grid(visible=False)
        ax.set_xticks(range(len(lengths)), [f"{n:,}" for n in lengths])
        ax.set_yticks(range(len(depths)), [fmt.share(depth) for depth in depths])
        ax.set_xlabel("tokens")
        ax.set_ylabel("depth")
        ax.set_title(line["label"])
    figure.tight_layout()
    return figure


def _panels(count: int, width: float, height: float) -> tuple[pyplot.Figure, list[Axes]]:
    rows, columns = -(-count // ACROSS), min(count, ACROSS)
    figure, axes = pyplot.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False)
    for ax in axes.flat[count:]:
        ax.set_axis_off()
    return figure, list(axes.flat[:count])
