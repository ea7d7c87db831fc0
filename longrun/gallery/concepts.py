"""Pictures of ideas rather than schemes. Each function draws one, and its docstring is the caption in the gallery."""

import math
from collections.abc import Callable

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from longrun.gallery.panels import ACCENT, FAINT, HEADS, INK, SIGNED, row
from model.pe.registry import schemes
from model.positions.base import PositionPlan, SequenceBatch
from model.positions.registry import plans
from model.shape import Shape

GAMMA = 0.5772156649015329  # Euler and Mascheroni's


def relative_shift() -> Figure:
    """**A shift of the sinusoid is a rotation that does not depend on where it starts.** Left: 60 positions of a code
    of 32 channels; the fast columns count like the low bits of a counter, the slow ones like the high bits. Middle:
    the matrix M with PE(t + 10) = M PE(t) for every t, a block of cos and sin for each frequency
    ([1706.03762](https://arxiv.org/abs/1706.03762)). Right: the dot product of two codes depends on their distance
    alone and is the same in both directions.
    """
    code, shift = sinusoid(60, 32), 10
    matrix = shift_matrix(32, shift)
    error = np.abs(code[:-shift] @ matrix.T - code[shift:]).max()

    def codes(ax: Axes) -> None:
        ax.imshow(code, aspect="auto", cmap=SIGNED, vmin=-1, vmax=1, interpolation="nearest")
        ax.set(title="code", xlabel="channel", ylabel="position")

    def rotation(ax: Axes) -> None:
        ax.imshow(matrix, cmap=SIGNED, vmin=-1, vmax=1, interpolation="nearest")
        ax.set(title=f"M for a shift of {shift}, exact to {error:.0e}", xlabel="channel", ylabel="channel")

    def products(ax: Axes) -> None:
        for start, colour in zip((0, 20, 40, 59), HEADS, strict=True):
            ax.plot(np.arange(60) - start, code @ code[start] / 16, color=colour, label=f"from {start}")
        ax.set(title="dot product of two codes", xlabel="distance")
        ax.legend()

    return row([(1.25, codes), (1.0, rotation), (1.5, products)])


def sinusoid(positions: int, width: int) -> np.ndarray:
    """The code of pe=sinusoidal, float64 (positions, width)."""
    encoding = schemes.create(Shape(width, 1, 1, width, 1, positions), "sinusoidal")
    return encoding.code(torch.arange(positions)[None])[0].double().numpy()


def shift_matrix(width: int, shift: int) -> np.ndarray:
    """M (width, width) with PE(t + shift) = M PE(t): [[cos, sin], [-sin, cos]] of shift * w for each (sin, cos)."""
    matrix = np.zeros((width, width))
    for c in range(0, width, 2):
        angle = shift * 10000 ** (-c / width)
        matrix[c : c + 2, c : c + 2] = [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
    return matrix


def decay() -> Figure:
    """**Why a geometric series of frequencies, and what "decays with distance" means.** Left: the mean of cos(D
    b^(-2c/d)) over the channels, which is what rotary attention makes of equal queries and keys. It swings about a
    line that falls with the logarithm of the distance, 1 - (ln D + 0.577) / ln b (dashed), down to 0 at about 0.56 b;
    a larger base falls more slowly. It is no monotone decay: nearly half of the steps go up. Right: other monotone
    choices of the frequency as a function of the channel, t in [0, 1], for infinitely many channels; theta = t
    crosses zero at once.
    """

    def bases(ax: Axes) -> None:
        x = np.unique(np.geomspace(1, 2**17, 1500).round())
        for base, colour in zip((1e2, 1e4, 1e6), HEADS[1:], strict=True):
            ax.plot(x, kernel(x, base, 128), color=colour, linewidth=0.8, label=f"b = {base:,.0f}")
            line = 1 - (np.log(x) + GAMMA) / math.log(base)
            ax.plot(x[line > 0], line[line > 0], color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        logarithmic(ax, x)
        ax.set(title="mean of cos, d = 128", xlabel="distance D")
        ax.legend()

    def choices(ax: Axes) -> None:
        x = np.geomspace(0.5, 1000, 600)
        t = (np.arange(20000) + 0.5) / 20000
        kinds = {"b^{-t}": 1e4**-t, "(1-t)^2": (1 - t) ** 2, r"1-\sqrt{t}": 1 - np.sqrt(t), "t": t}
        for (label, theta), colour in zip(kinds.items(), HEADS[::-1], strict=True):
            ax.plot(x, [np.cos(d * theta).mean() for d in x], color=colour, linewidth=1.2, label=rf"$\theta = {label}$")
        logarithmic(ax, x)
        ax.set(title="other frequencies, d infinite", xlabel="distance D")
        ax.legend()

    return row([(2.1, bases), (1.7, choices)], height=2.6)


def kernel(distance: np.ndarray, base: float, d: int) -> np.ndarray:
    """Mean over c of cos(distance * base^(-2c/d)); distance (n,) -> (n,)."""
    theta = base ** -(np.arange(0, d, 2) / d)
    return np.cos(np.outer(distance, theta)).mean(1)


def base_bound() -> Figure:
    """**The base bounds the usable length.** A key with the query's own content should not look worse than an average
    one; for rotary attention that asks the sum of cos(m b^(-2c/d)) to stay above 0 up to the length (Su 2024,
    kexue.fm 10122; [2405.14591](https://arxiv.org/abs/2405.14591)). The curves are the first distance at which it
    does not. It grows more slowly than the base, and not
    evenly: a larger base can be worse than a smaller one.
    """

    def bound(ax: Axes) -> None:
        grid = np.geomspace(1e2, 1e6, 120)
        for d, colour in ((32, HEADS[1]), (64, HEADS[2]), (128, HEADS[3])):
            ax.step(grid, [usable_length(base, d) for base in grid], color=colour, label=f"d = {d}", where="mid")
        for base, label in ((1e4, "RoFormer, LLaMA"), (5e5, "Llama 3")):
            ax.axvline(base, color=ACCENT, linewidth=0.8, linestyle=(0, (3, 2)))
            ax.text(base * 0.93, 40, label, ha="right", fontsize=7.5, color=ACCENT)
        ax.set_xscale("log")
        ax.set_yscale("log", base=2)
        ax.set_yticks([2**n for n in range(6, 17, 2)], [f"{2**n:,}" for n in range(6, 17, 2)])
        ax.set(title="usable length", xlabel="base", ylabel="first distance below 0")
        ax.grid(color="#e6e6ea", linewidth=0.6)
        ax.legend()

    return row([(2.4, bound)], height=2.6)


def usable_length(base: float, d: int, limit: int = 2**17) -> int:
    """The first integer distance at which the mean cosine is negative, or `limit`."""
    for start in range(1, limit, 4096):
        below = kernel(np.arange(start, start + 4096), base, d) < 0
        if below.any():
            return start + int(below.argmax())
    return limit


def position_plans() -> Figure:
    """**Position plans.** Every row is a sequence of L = 16 tokens and every dot a token, drawn where its plan puts
    it: four sequences in training and, below the line, two in evaluation.
    """
    length, batch = 16, 4
    shape = Shape(width=64, heads=4, kv_heads=4, head_dim=16, layers=4, train_length=length)
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(100, (batch, length), generator=generator)
    documents = (torch.arange(length) >= torch.tensor([[5], [9], [12], [7]])).long()

    def dots(name: str, plan: PositionPlan) -> Callable[[Axes], None]:
        def draw(ax: Axes) -> None:
            for training, rows, top in ((True, batch, 0), (False, 2, batch + 0.7)):
                own = generator if training else None
                of = SequenceBatch(rows, tokens.device, training, own, tokens[:rows], documents[:rows])
                place = plan.positions(length, of)
                for number, ids in enumerate(place.expand(rows, *place.shape[1:])):
                    positions = ids if ids.dim() == 1 else ids[:, 0]
                    part = (ids.diff(prepend=ids[:1]) < 0).cumsum(0) if ids.dim() == 1 else ids[:, 1]
                    restarted = part % 2  # another row and colour for each document, segment or generated token
                    colours = [HEADS[(3 if training else 2) - 2 * int(part)] for part in restarted]
                    ax.scatter(positions, top + number + 0.35 * restarted, s=5, c=colours, linewidths=0)
            wide = 16 * length if plan.end(length, training=True) > 2 * length else 2 * length
            ax.axhline(batch - 0.15, color=FAINT, linewidth=0.6)
            ax.set(title=name, yticks=[], ylim=(batch + 2.4, -0.8), xlim=(-wide / 20, wide * 1.02))
            ticks = [n for n in (0, 1, 2, 4, 16) if n * length <= wide and (n != 2 or wide == 2 * length)]
            ax.set_xticks([n * length for n in ticks], ["0", "L", *(f"{n}L" for n in ticks[2:])])
            ax.spines["left"].set_visible(False)

        return draw

    return row([(2.0, dots(name, plan)) for name, plan in example_plans(shape).items()], height=1.5, columns=5)


def example_plans(shape: Shape) -> dict[str, PositionPlan]:
    """The plans by name. Plans with lists of special tokens get examples."""
    special = {"delimiters": list(range(15)), "digits": list(range(80))}  # of 100 tokens
    by_name = {}
    for name in plans.names():
        options = plans.signature(plans.options(name)["scheme"])
        by_name[name] = plans.create(
            shape, {"name": name} | {key: ids for key, ids in special.items() if key in options}
        )
    return by_name


def logarithmic(ax: Axes, x: np.ndarray) -> None:
    ax.set_xscale("log")
    ax.set_xlim(x[0], x[-1])
    ax.axhline(0, color=FAINT, linewidth=0.8)
    ax.grid(color="#e6e6ea", linewidth=0.6)


CONCEPTS: dict[str, Callable[[], Figure]] = {
    "relative-shift": relative_shift,
    "long-range-decay": decay,
    "base-bound": base_bound,
    "position-plans": position_plans,
}
