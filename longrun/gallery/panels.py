"""The gallery's pictures: a scheme's portrait as a row of panels, each with one quantity."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnchoredOffsetbox, HPacker, TextArea
from matplotlib.ticker import FixedLocator, NullLocator
from PIL import Image

from longrun.gallery.probe import FAR, LENGTH, MAP, Portrait

INK, FAINT, HIDDEN, ACCENT = "#12161f", "#8a8a94", "#eeeef2", "#c65805"
HEADS = ("#c65805", "#c3a944", "#179186", "#4145c1")
WEIGHT = LinearSegmentedColormap.from_list("weight", ["#ffffff", "#cfe3ff", "#54afff", "#4145c1", "#2b2e8c"])
SIGNED = LinearSegmentedColormap.from_list("signed", ["#821c14", "#c65805", "#fbfbfd", "#4145c1", "#12164f"])
LOWEST = -20.0  # a key whose logit is lower than its query's own by this much has no weight
PALEST = (-10.0, -0.5)  # range of the white logit of the maps; within it, white is the lowest logit
STYLE: Any = {
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.framealpha": 0.75,
    "legend.edgecolor": "none",
    "legend.fontsize": 7.5,
    "lines.linewidth": 1.6,
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.06,
}
Panel = tuple[float, Callable[[Axes], None]]  # width relative to the height, and the function that draws it


def portrait_figure(portrait: Portrait) -> Figure:
    panels: list[Panel] = []
    if portrait.code is not None:
        code = portrait.code
        panels += [(1.25, lambda ax: draw_code(ax, code)), (1.0, lambda ax: draw_similarity(ax, code))]
    if portrait.curves and np.nanmax(np.abs(portrait.curves[0].values)) > 1e-6:
        panels.append((1.55, lambda ax: draw_curves(ax, portrait)))
    if portrait.scale is not None:
        scale = portrait.scale
        panels.append((1.4, lambda ax: draw_positions(ax, scale, "logits are multiplied by", "position of the query")))
    if portrait.sink is not None:
        sink = portrait.sink
        panels.append((1.4, lambda ax: draw_positions(ax, sink, "weight that no key gets", "keys, all logits 0")))
    panels += map_panels(portrait)
    return row(panels)


def map_panels(portrait: Portrait) -> list[Panel]:
    """Maps of a single kind of layer at both lengths, of several kinds at the longer one."""
    panels: list[Panel] = []
    drawn = {
        layers: pictures if len(portrait.maps) == 1 else pictures[-1:] for layers, pictures in portrait.maps.items()
    }
    lowest = min((float(np.nanmin(logits)) for pictures in drawn.values() for logits in pictures), default=0.0)
    white = min(max(lowest, PALEST[0]), PALEST[1])
    for layers, pictures in drawn.items():
        which = "" if len(drawn) == 1 else f", layer{'s' if ',' in layers else ''} {layers}"
        for logits in pictures:
            panels.append((1.0, lambda ax, x=logits, t=which: draw_map(ax, x, t, white, lowest)))
    ends = portrait.ends
    if portrait.maps and ends is not None:
        panels.append((1.0, lambda ax: draw_end(ax, ends)))
    return panels


def row(panels: list[Panel], height: float = 2.25, columns: int | None = None) -> Figure:
    """Panels side by side, or in rows of `columns`; each draws itself."""
    columns = columns or len(panels)
    rows = -(-len(panels) // columns)
    widths = [width for width, _ in panels[:columns]]
    with matplotlib.rc_context(STYLE):
        size = (height * (sum(widths) + 0.42 * columns), height * rows)
        figure, axes = pyplot.subplots(rows, columns, figsize=size, width_ratios=widths, squeeze=False)
        figure.subplots_adjust(wspace=0.42 * columns / sum(widths), hspace=0.6)
        for ax, (_, draw) in zip(axes.flat, panels, strict=False):
            draw(ax)
        for ax in axes.flat[len(panels) :]:
            ax.remove()
    return figure


def save(figure: Figure, path: Path, colours: int = 160) -> None:
    """Save as PNG with a palette, a third of the size of one in full colour without a visible difference."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
    with Image.open(path) as image:
        image.convert("RGB").quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)


def draw_code(ax: Axes, code: np.ndarray) -> None:
    limit = np.percentile(np.abs(code), 99) or 1.0
    ax.imshow(code, aspect="auto", cmap=SIGNED, vmin=-limit, vmax=limit, interpolation="nearest")
    ax.set(title="code of each position", xlabel="channel", ylabel="position")
    ax.set_xticks([0, code.shape[1] // 2, code.shape[1]])
    position_ticks(ax.yaxis, len(code))
    training_line(ax.axhline, len(code))


def draw_similarity(ax: Axes, code: np.ndarray) -> None:
    size = np.linalg.norm(code, axis=1)
    cosine = code @ code.T / np.maximum(np.outer(size, size), 1e-12)
    ax.imshow(cosine, cmap=SIGNED, vmin=-1, vmax=1, interpolation="nearest")
    ax.set(title="cosine of two codes", xlabel="position", ylabel="position")
    both_axes(ax, len(code))


def draw_curves(ax: Axes, portrait: Portrait) -> None:
    longest = portrait.curves[0]
    alike = np.allclose(longest.values, longest.values[:1], atol=1e-4, equal_nan=True)
    colours = HEADS[-1:] if alike else HEADS[: len(longest.values)]
    for number, colour in enumerate(colours):
        draw_curve(ax, longest.values[number], colour, linewidth=1.3)
        for other in portrait.curves[1:]:
            draw_curve(ax, other.values[number], colour, linestyle=(0, (2, 2)), linewidth=1)
    low = np.nanmin(longest.values)
    ax.set(title="logit by distance", xlabel="distance to the key, content alike")
    if low < LOWEST:
        ax.set_ylim(LOWEST, max(1.0, np.nanmax(longest.values) + 1))
    distance_axis(ax, max(longest.length, 2 * LENGTH))
    words = [] if alike else [("head", INK), *((str(n + 1), colour) for n, colour in enumerate(colours))]
    legend_above(ax, words + [("(dotted: query at L)", FAINT)] * (len(portrait.curves) > 1))


def draw_curve(ax: Axes, values: np.ndarray, colour: str, **line: Any) -> None:
    """Logits by distance. Single keys beyond a masked range, such as sinks, are drawn as dots."""
    x, y = np.arange(1, len(values)), values[1:]
    ax.plot(x, y, color=colour, **line)
    hidden = np.isnan(y)
    if hidden.any():
        beyond = ~hidden & (x > x[hidden.argmax()])
        ax.plot(x[beyond], y[beyond], ".", color=colour, markersize=4, clip_on=False)


def legend_above(ax: Axes, words: list[tuple[str, str]]) -> None:
    """Coloured words at the right of the title, where they cover no curve."""
    pieces: list[Artist] = [TextArea(word, textprops={"color": colour, "size": 7.5}) for word, colour in words]
    if pieces:
        packed = HPacker(children=pieces, align="baseline", pad=0, sep=3)
        place = {"bbox_to_anchor": (1, 1.02), "bbox_transform": ax.transAxes, "pad": 0, "borderpad": 0}
        ax.add_artist(AnchoredOffsetbox("lower right", child=packed, frameon=False, **place))


def draw_positions(ax: Axes, values: np.ndarray, title: str, label: str) -> None:
    ax.plot(np.arange(1, len(values) + 1), values, color=HEADS[-1])
    ax.set(title=title, xlabel=label)
    distance_axis(ax, len(values))


def draw_map(ax: Axes, logits: np.ndarray, layers: str, white: float, lowest: float) -> None:
    length = len(logits)
    picture = np.ma.masked_invalid(pooled(logits, length // 256) if length > 256 else logits)
    ax.set_facecolor(HIDDEN)
    extent = (0, length, length, 0)
    ax.imshow(picture, cmap=WEIGHT, norm=Normalize(white, 0), interpolation="nearest", extent=extent)
    scale = f"white: {white:.2g}{' and less' if lowest < white - 1e-3 else ''}" if lowest < -1e-6 else "all alike"
    ax.text(0.97, 0.97, scale, transform=ax.transAxes, ha="right", va="top", fontsize=7, color=FAINT)
    ax.set(title=f"attention at {'' if length == LENGTH else length // LENGTH}L{layers}", xlabel="key", ylabel="query")
    both_axes(ax, length)


def draw_end(ax: Axes, ends: int) -> None:
    ax.set_facecolor(HIDDEN)
    ax.text(0.5, 0.5, f"no position past {ends}:\nlonger input is refused", ha="center", va="center", color=INK)
    ax.set(title=f"attention at {MAP}L", xticks=[], yticks=[], aspect="equal")


def pooled(values: np.ndarray, block: int) -> np.ndarray:
    """Means over blocks, ignoring NaN; NaN for a block of NaN only."""
    n = len(values) // block
    blocks = values[: n * block, : n * block].reshape(n, block, n, block)
    some = ~np.isnan(blocks).all(axis=(1, 3))
    return np.where(some, np.nansum(blocks, axis=(1, 3)) / np.maximum((~np.isnan(blocks)).sum(axis=(1, 3)), 1), np.nan)


def both_axes(ax: Axes, length: int) -> None:
    position_ticks(ax.xaxis, length)
    position_ticks(ax.yaxis, length)
    training_line(ax.axhline, length)
    training_line(ax.axvline, length)


def position_ticks(axis: Axis, length: int) -> None:
    ticks = {0: "0", LENGTH: "L", **({length: f"{length // LENGTH}L"} if length > LENGTH else {})}
    axis.set_ticks(list(ticks), list(ticks.values()))


def training_line(line: Callable, length: int) -> None:
    if length > LENGTH:
        line(LENGTH, color=ACCENT, linewidth=0.8, linestyle=(0, (3, 2)))


def distance_axis(ax: Axes, length: int) -> None:
    """Logarithmic, with the training length marked."""
    ax.set_xscale("log", base=2)
    ax.set_xlim(1, length)
    ticks = [n for n in (1, 8, LENGTH // 4, LENGTH, 4 * LENGTH, FAR * LENGTH) if n <= length]
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticklabels([f"{'' if n == LENGTH else n // LENGTH}L" if n >= LENGTH else str(n) for n in ticks])
    ax.axvline(LENGTH, color=ACCENT, linewidth=0.8, linestyle=(0, (3, 2)))
    ax.grid(color="#e6e6ea", linewidth=0.6)
