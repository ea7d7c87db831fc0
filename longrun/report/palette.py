"""Eight colours for light and dark pages and the marker that goes with each line number.

Found by a search in OKLab that maximised the smallest distance between two colours as seen with normal, protan, deutan
and tritan vision (Machado et al. 2009): 0.14 on white, 0.12 on dark; Okabe and Ito's eight reach 0.08 by this measure.
tests/report/test_report.py measures it. Colour is never alone: each line has a marker, and its name stands at its end.
"""

LIGHT = ("#4145c1", "#c65805", "#179186", "#821c14", "#54afff", "#c3a944", "#510267", "#12161f")
DARK = ("#2f80f3", "#fd7847", "#bff9c7", "#b55330", "#28d9f9", "#fdc41c", "#9260a8", "#9e9eac")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")  # matplotlib's names; report_page/chart.js draws the same shapes


def colour(number: int) -> int:
    """Index of a line's colour."""
    return number % len(LIGHT)


def marker(number: int) -> int:
    """Index of a line's marker: after eight lines the colours come again, each with another marker, for 64 lines."""
    return (number + 3 * (number // len(LIGHT))) % len(MARKERS)


def style() -> str:
    """CSS custom properties --line-0 ... for both themes."""

    def rules(colours: tuple[str, ...]) -> str:
        return " ".join(f"--line-{index}: {value};" for index, value in enumerate(colours))

    return f":root {{ {rules(LIGHT)} }}\n@media screen {{ :root[data-theme='dark'] {{ {rules(DARK)} }} }}"
