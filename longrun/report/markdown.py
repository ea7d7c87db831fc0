"""report.md: headline, tables and provenance of the page, for a terminal, a diff or a pull request."""

import re

from longrun.report.charts import Figure
from longrun.report.compose import Report
from longrun.report.tables import Cell, Table


def markdown(report: Report) -> str:
    parts = [f"# {_escape(report.headline)}", f"Longrun report on `{report.name}`."]
    parts.append("\n".join(f"* **{_escape(lead)}.** {_escape(text)}" for lead, text in report.findings))
    if report.caveats:
        parts += ["**Read with care**", _bullets(report.caveats)]
    parts += _figures(report.figures)
    for protocol, tables in report.protocols:
        if len(report.protocols) > 1:
            parts.append(f"# Protocol {protocol}")
        parts += [_table(table) for table in tables if table.rows]
    parts += [_table(table) for table in report.tasks if table.rows]
    parts += ["## Provenance", _bullets([f"{key}: {value}" for key, value in report.facts])]
    parts.append("To reproduce (all other keys are in each run's `config.yaml`):")
    parts.append("```\n" + "\n".join(report.commands) + "\n```")
    return "\n\n".join(part for part in parts if part) + "\n"


def _bullets(sentences: list[str]) -> str:
    return "\n".join(f"* {_escape(sentence)}" for sentence in sentences)


def _figures(figures: list[Figure]) -> list[str]:
    """Each caption's first figure as an image; the same figure in another metric as a link."""
    shown, linked, captions = [], [], set()
    for figure in figures:
        link = f"[{_escape(figure.title)}](figures/{figure.stem}.png)"
        if figure.caption in captions:
            linked.append(link)
        else:
            shown.append(f"!{link}\n\n*{_escape(figure.caption)}*")
        captions.add(figure.caption)
    return shown + ([f"Also drawn: {', '.join(linked)}; every figure is there as SVG too."] if linked else [])


def _table(table: Table) -> str:
    head = "| " + " | ".join(_escape(column) for column in table.columns) + " |"
    text = table.text_columns
    rule = "|" + "|".join([" :--- "] * text + [" ---: "] * (len(table.columns) - text)) + "|"
    rows = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in table.rows]
    note = f"\n\n*{_escape(table.note)}*" if table.note else ""
    return f"## {_escape(table.title)}\n\n" + "\n".join([head, rule, *rows]) + note


def _cell(cell: Cell) -> str:
    text = _escape(cell.text)
    text = f"**{text}**" if cell.strong else text
    sub = cell.sub if cell.sub.startswith("[") or not cell.sub else f"({cell.sub})"
    return f"{text} {_escape(sub)}".strip()


def _escape(text: str) -> str:
    """Escape markup: names come from folders and files. Underscores inside a word need no escape."""
    for character in "\\`*|":
        text = text.replace(character, "\\" + character)
    return " ".join(re.sub(r"<(?=[a-zA-Z/!?])", "&lt;", text).split())
