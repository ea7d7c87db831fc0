"""Eight colours for light and dark pages, and the colour and marker of each style number.

The colours maximise the smallest OKLab distance between two of them under normal, protan, deutan and tritan vision
(Machado et al. 2009): 0.14 on white, 0.12 on dark; the eight of Okabe and Ito reach 0.08 by this measure, which
tests/report/test_report_page.py repeats. A line is never marked by colour alone: it also has a marker and a label.
"""

LIGHT = ("#4145c1", "#c65805", "#179186", "#821c14", "#54afff", "#c3a944", "#510267", "#12161f")
DARK = ("#2f80f3", "#fd7847", "#bff9c7", "#b55330", "#28d9f9", "#fdc41c", "#9260a8", "#9e9eac")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")  # matplotlib's names; assets/chart.js draws the same shapes


def colour(number: int) -> int:
    """Index into LIGHT and DARK."""
    return number % len(LIGHT)


def marker(number: int) -> int:
    """Index into MARKERS: after eight styles the colours repeat with other markers, which gives 64 combinations."""
    return (number + 3 * (number // len(LIGHT))) % len(MARKERS)


def style() -> str:
    """CSS custom properties --line-0, --line-1, ... for both themes."""

    def rules(colours: tuple[str, ...]) -> str:
        return " ".join(f"--line-{index}: {value};" for index, value in enumerate(colours))

    return f":root {{ {rules(LIGHT)} }}\n@media screen {{ :root[data-theme='dark'] {{ {rules(DARK)} }} }}"
