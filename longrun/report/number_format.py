"""Formats of numbers, shared by page, Markdown and findings so that all show the same digits."""

import math
from collections.abc import Callable

NONE = "–"


def count(value: float | None) -> str:
    """65536 -> 65,536; None or not finite -> a dash."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def short(value: float | None) -> str:
    """1,050,000 -> 1.05M."""
    if value is None or not math.isfinite(value):
        return NONE
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def perplexity(value: float | None) -> str:
    if value is None or math.isnan(value):
        return NONE
    if math.isinf(value) or value >= 1e6:
        return "∞" if math.isinf(value) else f"{value:.1e}".replace("e+0", "e").replace("e+", "e")
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 100 else f"{value:.2f}"


def decimals(value: float | None, digits: int = 3) -> str:
    return NONE if value is None or not math.isfinite(value) else f"{value:.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 3) -> str:
    """+0.012, −0.012, and 0.000 without a sign."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text[1:] if float(text[1:]) == 0 else text


def bounds(low: float, high: float) -> str:
    return f"[{signed(low)}, {signed(high)}]"


def seed_range(values: tuple[float, ...], style: Callable[[float], str] = perplexity) -> str:
    """'5.90–5.97' for several seeds, '' for one; one number where the digits do not differ."""
    finite = [value for value in values if not math.isnan(value)]
    if len(finite) < 2:
        return ""
    low, high = style(min(finite)), style(max(finite))
    return low if low == high else f"{low}–{high}"


def p_value(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def share(value: float) -> str:
    return f"{100 * value:.0f} %"


def ratio(length: int, train_length: int) -> str:
    """A length as a multiple of the training length: 2048, 128 -> 16×; 64, 128 -> ½×."""
    value = length / train_length
    fractions = {0.5: "½", 0.25: "¼", 0.125: "⅛"}
    return f"{fractions.get(value) or f'{value:.3g}'}×"


def lengths(values: list[int]) -> str:
    """1,024, 2,048."""
    return ", ".join(f"{n:,}" for n in values)


def listing(names: list[str]) -> str:
    """a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def plural(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def sentence(text: str) -> str:
    """The text with a capital first letter."""
    return text[0].upper() + text[1:]
