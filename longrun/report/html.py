"""report.html: one file with its style, script and data inside, so that it opens from a disk without a network."""

import json
import re
from html import escape
from pathlib import Path

from longrun.report import number_format as fmt
from longrun.report.captions import TRAINING_CAPTION, length_caption, position_caption
from longrun.report.palette import style
from longrun.report.tables import INTERVAL, Cell, Table, sentence

PARTS = Path(__file__).parent / "assets"
DEPTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # nats per token at which a matrix cell takes the next darker tint
ALWAYS = ("report.md", "report.json", "figures/")


def page(name: str, content: dict, data: dict) -> str:
    """content as for report_markdown.markdown, with one (protocol, tables) per study of `data` in the same order."""
    studies = [
        study | {"captions": {metric: length_caption(study, metric) for metric in study["metrics"]}}
        for study in data["studies"]
    ]
    lines = {line["label"]: line["colour"] for part in (*studies, *data["answers"]) for line in part["lines"]}
    warning = f'<div class="caveats"><strong>Read with care</strong><ul>{_items(content["caveats"])}</ul></div>'
    fields = {
        "title": escape(f"{content['headline']} – Longrun report"),
        "style": style() + "\n" + _part("style.css"),
        "name": escape(name),
        "headline": _text(content["headline"]),
        "findings": "".join(f"<li><b>{_text(lead)}.</b> {_text(text)}</li>" for lead, text in content["findings"]),
        "caveats": warning if content["caveats"] else "",
        "sections": "\n".join(_sections(content, data | {"studies": studies}, lines)),
        "footer": f"The same numbers are in {', '.join(f'<code>{file}</code>' for file in ALWAYS)} beside this file.",
        "data": script_json(data | {"studies": studies}),
        "chart": _part("chart.js") + _part("hover.js"),
        "script": _part("page.js"),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: fields[match[1]], _part("page.html"))


def _part(name: str) -> str:
    return (PARTS / name).read_text(encoding="utf-8")


def script_json(value: object) -> str:
    """JSON for inside <script>: no '<' that could end the element or open a comment, no raw line separator."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _text(value: str) -> str:
    """Escaped, with a number kept on one line with its per cent sign."""
    return escape(value).replace(" %", "&nbsp;%")


def _items(sentences: list[str]) -> str:
    return "".join(f"<li>{_text(sentence)}</li>" for sentence in sentences)


def _sections(content: dict, data: dict, lines: dict[str, int]) -> list[str]:
    found = [_length_figure(data["studies"])] if data["studies"] else []
    for index, ((protocol, tables), study) in enumerate(zip(content["studies"], data["studies"], strict=True)):
        inner = [_table(table, lines) for table in tables if table.name not in ("pairs", "cost")]
        by_name = {table.name: table for table in tables}
        inner += [_pairs(by_name["pairs"], study, lines), _table(by_name["cost"], lines)]
        several = f"<h2>Protocol {escape(protocol)}</h2>" if len(data["studies"]) > 1 else ""
        found.append(f'<div class="study" data-study="{index}">{several}{"".join(inner)}</div>')
    if data["positions"]:
        found.append(_position_figure(data["positions"]))
    if content["answers"]:
        found.append(
            f"<section><h2>Right answers</h2>{''.join(_table(t, lines) for t in content['answers'])}</section>"
        )
    if data["training"]:
        found.append(_training_figure())
    return [*found, _provenance(content)]


def _choice(key: str, options: list[tuple[str, str]], label: str) -> str:
    buttons = "".join(
        f'<button type="button" data-set="{key}={escape(value)}">{escape(text)}</button>' for value, text in options
    )
    return f'<div class="choice" role="group" aria-label="{escape(label)}">{buttons}</div>'


def _length_figure(studies: list[dict]) -> str:
    choices = [
        _choice("metric", [("ppl", "perplexity"), ("bpb", "bits per byte"), ("gap", "gap")], "metric"),
        _choice("scale", [("log", "log"), ("linear", "linear")], "vertical scale"),
    ]
    if len(studies) > 1:
        protocols = [(str(index), study["protocol"]) for index, study in enumerate(studies)]
        choices.insert(0, _choice("study", protocols, "protocol"))
    lines = [line for study in studies for line in study["lines"]]
    if any(len(line["seeds"]) > 1 for line in lines):
        choices.append('<button type="button" class="quiet" data-set="bands=toggle">seed bands</button>')
    if any(line["control"] for line in lines):
        choices.append('<button type="button" class="quiet" data-set="controls=toggle">windowed controls</button>')
    return (
        '<section aria-label="Results by evaluation length"><h2>Results by evaluation length</h2><figure>'
        f'<div class="controls">{"".join(choices)}</div><div class="legend" role="group" aria-label="lines"></div>'
        '<div class="panels" id="lengths"><div class="chart" id="lengths-full"></div>'
        '<div class="chart" id="lengths-detail"></div></div><figcaption id="lengths-caption"></figcaption>'
        "</figure></section>"
    )


def _position_figure(positions: dict) -> str:
    return (
        "<section><h2>NLL by position in the window</h2><figure>"
        '<div class="legend" role="group" aria-label="lines"></div><div class="panels" id="positions">'
        '<div class="chart" id="positions-full"></div><div class="chart" id="positions-detail"></div></div>'
        f"<figcaption>{escape(position_caption(positions))}</figcaption></figure></section>"
    )


def _training_figure() -> str:
    return (
        "<section><h2>Training</h2><figure><div class='controls'>"
        + _choice("training", [("loss", "training loss"), ("grad_norm", "gradient norm")], "left panel")
        + '</div><div class="legend" role="group" aria-label="lines"></div><div class="panels">'
        '<div class="chart" id="training-loss"></div><div class="chart" id="training-valid"></div></div>'
        f"<figcaption>{TRAINING_CAPTION}</figcaption></figure></section>"
    )


def _table(table: Table, lines: dict[str, int], heading: bool = True) -> str:
    if not table.rows:
        return ""
    words = table.text_columns
    head = "".join(
        f'<th scope="col"{_left(index < words)}>{_text(column)}</th>' for index, column in enumerate(table.columns)
    )
    body = "".join(
        f"<tr>{''.join(_row_head(cell, lines) for cell in row[:words])}{''.join(map(_cell, row[words:]))}</tr>"
        for row in table.rows
    )
    title = f"<h3>{escape(table.title)}</h3>" if heading else ""
    metric = f' data-metric="{table.metric}"' if table.metric else ""
    return (
        f'<div class="table" id="table-{table.name}"{metric}>{title}<div class="scroll"><table><thead><tr>{head}</tr>'
        f'</thead><tbody>{body}</tbody></table></div><p class="note">{_text(table.note)}</p></div>'
    )


def _row_head(cell: Cell, lines: dict[str, int]) -> str:
    mark = f'<span data-line="{lines[cell.text]}"></span>' if cell.text in lines else ""
    return f'<th scope="row" class="left">{mark}{escape(cell.text)}</th>'


def _left(words: bool) -> str:
    return ' class="left"' if words else ""


def _cell(cell: Cell) -> str:
    text = f"<strong>{_text(cell.text)}</strong>" if cell.strong else _text(cell.text)
    sub = f"<small>{escape(cell.sub)}</small>" if cell.sub else ""
    missing = f' class="na" title="{escape(cell.title)}"' if cell.title else ""
    missing += f' class="heat" style="--depth: {0.85 * cell.depth:.2f}"' if cell.depth else ""
    return f"<td{missing}>{text}{sub}</td>"


def _pairs(table: Table, study: dict, lines: dict[str, int]) -> str:
    """Two matrices to see the pattern, the full table with intervals behind a fold."""
    if not table.rows:
        return ""
    homes = [_matrix(study, longest) for longest in (False, True)]
    matrices = "".join(dict.fromkeys(matrix for matrix in homes if matrix))
    fold = f"<summary>All {len(table.rows)} comparisons with intervals</summary>{_table(table, lines, heading=False)}"
    note = (
        "NLL of the row minus NLL of the column, nats per token: negative (blue) means that the row predicts better. "
        f"Tinted and bold where Holm-adjusted p ≤ 0.05 and the {INTERVAL} excludes 0; grey otherwise. "
        f"{sentence(study['scope'])}."
    )
    return (
        f'<div id="pairs"><h3>{escape(table.title)}</h3><p class="note">{_text(note)}</p>'
        f'<div class="matrices">{matrices}</div><details>{fold}</details></div>'
    )


def _matrix(study: dict, longest: bool) -> str:
    names = [line["label"] for line in study["lines"]]
    homes = {line["label"]: line["train_length"] for line in study["lines"]}
    values = {}
    for pair in sorted(study["pairs"], key=lambda pair: pair["length"]):
        if longest or pair["length"] == homes[pair["a"]]:
            mean, won = pair["difference"]["mean"], pair["difference"]["won"]
            values[pair["a"], pair["b"]] = (mean, pair | {"won": won})
            values[pair["b"], pair["a"]] = (-mean, pair | {"won": 1 - won})
    if not values:
        return ""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    named = max(study["lengths"]) if longest else 0
    body = "".join(
        f'<tr><th scope="row">{escape(a)}</th>'
        + "".join(_matrix_cell(values.get((a, b)), a == b, named) for b in names)
        + "</tr>"
        for a in names
    )
    title = "At the longest length that both serve" if longest else "At the training length (1×)"
    return (
        f'<div class="scroll"><table class="matrix"><caption>{title}</caption><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _matrix_cell(found: tuple[float, dict] | None, diagonal: bool, longest: int) -> str:
    """Tint and text of one pair; a pair that ends before `longest` names its length."""
    if found is None:
        return f'<td class="self">{"·" if diagonal else fmt.NONE}</td>'
    mean, pair = found
    p, won = fmt.p_value(pair["p_holm"]), fmt.share(pair["won"])
    title = escape(f"{pair['length']:,} tokens, Holm p {p}, {won} of documents won")
    text = fmt.signed(mean, 2 if abs(mean) >= 1 else 3)
    text += f"<small>at {pair['length']:,}</small>" if pair["length"] < longest else ""
    if not pair["significant"]:
        return f'<td class="open" title="{title}">{text}</td>'
    depth = 0.10 + 0.09 * sum(abs(mean) >= bound for bound in DEPTHS)
    tint = "--better" if mean < 0 else "--worse"
    return f'<td style="--tint: var({tint}); --depth: {depth:.2f}" title="{title}"><strong>{text}</strong></td>'


def _provenance(content: dict) -> str:
    facts = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in content["facts"])
    commands = escape("\n".join(content["commands"]))
    return (
        f'<section id="provenance"><h2>Provenance</h2><dl class="facts">{facts}</dl><p class="note">To reproduce; all '
        f"other keys are in the <code>config.yaml</code> of each run folder.</p><pre>{commands}</pre></section>"
    )
