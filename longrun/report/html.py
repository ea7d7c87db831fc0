"""report.html: a single file with its style, script and data inside, which opens from disk without a network."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from longrun.report import number_format as fmt
from longrun.report.captions import SHORT_NAMES
from longrun.report.charts import Chart, Figure
from longrun.report.compose import Report
from longrun.report.palette import style
from longrun.report.payload import finite
from longrun.report.tables import INTERVAL

ASSETS = Path(__file__).parent / "assets"
TINTS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # nats per token from which a matrix cell is one step darker


@dataclass(frozen=True)
class MatrixCell:
    """One pair: `tint` is the name of a CSS colour for a significant difference, `depth` its strength."""

    text: str
    sub: str = ""
    title: str = ""
    tint: str = ""
    depth: float = 0.0
    same: bool = False  # a scheme against itself, or a pair that was not compared


def page(report: Report) -> str:
    """The text of report.html."""
    studies = report.numbers["studies"]
    lines = {line["label"]: line["colour"] for part in (*studies, *report.numbers["answers"]) for line in part["lines"]}
    charts = charts_by_place(report.figures)
    environment = Environment(
        loader=FileSystemLoader(ASSETS), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters["prose"] = _prose
    return environment.get_template("page.html").render(
        report=report,
        lines=lines,
        studies=studies,
        matrices=[[_matrix(results, longest) for longest in (False, True)] for results in studies],
        captions={figure.stem: figure.caption for figure in report.figures},
        metrics=SHORT_NAMES,
        interval=INTERVAL,
        sentence=fmt.sentence,
        bands=any(len(line["seeds"]) > 1 for results in studies for line in results["lines"]),
        controls=any(line["control"] for results in studies for line in results["lines"]),
        style=Markup(style() + "\n" + _asset("style.css")),
        script=Markup("\n".join(_asset(name) for name in ("chart.js", "hover.js", "page.js"))),
        data=Markup(script_json(charts | {"lines": _legend(report)})),
    )


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _prose(text: str) -> Markup:
    """Escaped text, with a number kept on one line with its per cent sign."""
    return Markup(str(escape(text)).replace(" %", "&nbsp;%"))


def script_json(value: object) -> str:
    """JSON for inside <script>: no '<' that could end the element or open a comment, no raw line separator."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def charts_by_place(figures: list[Figure]) -> dict[str, Any]:
    """The charts that the page draws: by study and metric, by position, and of the training."""
    lengths: dict[int, dict[str, Any]] = {}
    places: dict[str, Any] = {"positions": None, "training": None}
    for figure in figures:
        charts = [_chart(chart) for chart in (*figure.charts, *figure.alternatives)]
        if figure.metric:
            lengths.setdefault(figure.study, {})[figure.metric] = {"chart": charts[0], "caption": figure.caption}
        elif figure.stem == "nll_by_position":
            places["positions"] = charts[0]
        elif figure.stem == "training":
            places["training"] = dict(zip(("loss", "valid", "grad_norm"), charts, strict=True))
    return {"studies": [lengths[index] for index in sorted(lengths)], **places}


def _chart(chart: Chart) -> dict[str, Any]:
    return finite(asdict(chart))


def _legend(report: Report) -> dict[str, int]:
    """Label -> style of every line in the page's figures."""
    numbers = report.numbers
    positions = numbers["positions"]["lines"] if numbers["positions"] else []
    lines = [*(line for results in numbers["studies"] for line in results["lines"]), *positions, *numbers["training"]]
    return {line["label"]: line["colour"] for line in lines}


def _matrix(results: dict[str, Any], longest: bool) -> list[tuple[str, list[MatrixCell]]]:
    """Rows of pairwise differences at the training length, or at the longest length of each pair; [] without any."""
    names = [line["label"] for line in results["lines"]]
    trained = {line["label"]: line["train_length"] for line in results["lines"]}
    values = {}
    for pair in sorted(results["pairs"], key=lambda pair: pair["length"]):
        if longest or pair["length"] == trained[pair["a"]]:
            mean, won = pair["difference"]["mean"], pair["difference"]["won"]
            values[pair["a"], pair["b"]] = (mean, pair | {"won": won})
            values[pair["b"], pair["a"]] = (-mean, pair | {"won": 1 - won})
    full = max(results["lengths"]) if longest else 0
    rows = [(a, [_matrix_cell(values.get((a, b)), a == b, full) for b in names]) for a in names]
    return rows if values else []


def _matrix_cell(value: tuple[float, dict] | None, diagonal: bool, longest: int) -> MatrixCell:
    """A pair that was compared at less than `longest` names its length."""
    if value is None:
        return MatrixCell("·" if diagonal else fmt.NONE, same=True)
    mean, pair = value
    p, won = fmt.p_value(pair["p_holm"]), fmt.share(pair["won"])
    title = f"{pair['length']:,} tokens, Holm p {p}, {won} of documents won"
    text = fmt.signed(mean, 2 if abs(mean) >= 1 else 3)
    sub = f"at {pair['length']:,}" if pair["length"] < longest else ""
    if not pair["significant"]:
        return MatrixCell(text, sub, title)
    depth = 0.10 + 0.09 * sum(abs(mean) >= bound for bound in TINTS)
    return MatrixCell(text, sub, title, "--better" if mean < 0 else "--worse", depth)
