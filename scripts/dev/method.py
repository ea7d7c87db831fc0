"""python -m scripts.dev.method [--out docs/figures]: the figures of docs/method.md, drawn by the code they explain."""

import argparse
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no display on a cluster node

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle

from data import windows as w
from longrun.base.paths import ROOT
from longrun.config.cli import guarded
from longrun.evaluation.protocols.needle import Trial, shares, statement
from longrun.report.figures import STYLE

FED, SCORED, UNUSED = "#c9d3ee", "#4145c1", "#ececf0"
OFFSETS = np.array([0, 30])  # one document of 30 tokens


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.dev.method", description="The figures of docs/method.md.")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "figures", help="the folder to draw into")
    out = parser.parse_args(arguments).out
    out.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        for name, draw in (("protocols", protocols), ("needles", needles)):
            figure = draw()
            figure.savefig(out / f"{name}.png", dpi=160)
            pyplot.close(figure)
            print(out / f"{name}.png")
    return 0


def protocols() -> pyplot.Figure:
    """Fed and scored tokens of a document, one row per window, at a short and at a long length."""
    windows_by_name = {
        "fixed_targets": w.fixed_targets(OFFSETS, [8, 16], 4, blocks=2),
        "nonoverlap": {n: w.nonoverlap(OFFSETS, n, minimum=17) for n in (8, 16)},
        "sliding, stride 4": {n: w.sliding(OFFSETS, n, 4, minimum=17) for n in (8, 16)},
        "last_k, k = 4": {n: w.last_k(OFFSETS, n, 4, minimum=17) for n in (8, 16)},
        "per_position": {n: w.per_position(OFFSETS, n, minimum=17) for n in (8, 16)},
    }
    rows = [max(len(windows) for windows in both.values()) for both in windows_by_name.values()]
    figure, axes = pyplot.subplots(
        len(windows_by_name),
        2,
        figsize=(9.5, 0.22 * sum(rows) + 2.6),
        height_ratios=[n + 1.2 for n in rows],
        squeeze=False,
    )
    for row, (name, both) in enumerate(windows_by_name.items()):
        for column, (length, windows) in enumerate(sorted(both.items())):
            _windows(axes[row, column], windows, rows[row])
            axes[row, column].set_title(f"{name}, L = {length}: {windows.targets} scored")
    colours = ((FED, "fed"), (SCORED, "scored"), (UNUSED, "not used"))
    figure.legend(handles=[Patch(color=c, label=label) for c, label in colours], loc="lower center", ncol=3)
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    return figure


def _windows(ax: Axes, windows: w.Windows, rows: int) -> None:
    for row in range(len(windows)):
        for token in range(int(OFFSETS[-1])):
            fed = windows.feed_start[row] <= token < windows.feed_end[row]
            scored = windows.score_start[row] <= token < windows.score_end[row]
            shade = SCORED if scored else FED if fed else UNUSED
            ax.add_patch(Rectangle((token, -row), 0.9, 0.8, color=shade, linewidth=0))
    _bare(ax, int(OFFSETS[-1]), rows)


def needles() -> pyplot.Figure:
    """Positions of the statements in the text, by depth: the target among others, and a group of targets."""
    words, codes = ["amber", "anchor", "arrow", "badge"], ["1", "2", "3", "4"]
    statements = [statement(*pair) for pair in zip(words, codes, strict=True)]
    kinds = {
        "multi_key: one of four is asked for": Trial(statements, "", codes[1:2], 1),
        "multi_value, multi_query, tracking: all four": Trial(statements, "", codes, None),
    }
    depths = (0.0, 0.25, 0.5, 0.75, 1.0)
    figure, axes = pyplot.subplots(1, 2, figsize=(9.5, 2.2))
    for ax, (title, trial) in zip(axes, kinds.items(), strict=True):
        for row, depth in enumerate(depths):
            ax.add_patch(Rectangle((0, -row), 100, 0.7, color=FED, linewidth=0))
            for number, share in enumerate(shares(trial, depth, np.random.default_rng(1))):
                asked = trial.target_index in (None, number)
                shade = SCORED if asked else "#8d94b8"
                ax.add_patch(Rectangle((100 * share - 0.8, -row), 1.6, 0.7, color=shade, linewidth=0))
            ax.add_patch(Rectangle((101, -row), 7, 0.7, color="#c65805", linewidth=0))
            ax.text(-2, 0.3 - row, f"{depth:.0%}", ha="right", va="center", fontsize=8)
        _bare(ax, 110, len(depths))
        ax.set_title(title)
    colours = ((FED, "text"), (SCORED, "asked for"), ("#8d94b8", "beside it"), ("#c65805", "question and answer"))
    figure.legend(handles=[Patch(color=c, label=label) for c, label in colours], loc="lower center", ncol=4)
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    return figure


def _bare(ax: Axes, width: int, rows: int) -> None:
    ax.set_xlim(-0.5, width)
    ax.set_ylim(0.2 - rows, 1)
    ax.set_axis_off()


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
