"""report.md: the same headline, tables and provenance as the page, for a terminal, a diff or a pull request."""

import re

from longrun.report.captions import Figure
from longrun.report.tables import Cell, Table


def markdown(name: str, content: dict) -> str:
    """The whole file from plain text.

    content: headline, findings [(lead, sentence)], caveats [sentence], figures [Figure],
    studies [(protocol, tables)], answers [table], facts [(name, value)], commands [line].
    """
    parts = [f"# {_escape(content['headline'])}", f"Longrun report on `{name}`."]
    parts.append("\n".join(f"* **{_escape(lead)}.** {_escape(text)}" for lead, text in content["findings"]))
    if content["caveats"]:
        parts += ["**Read with care**", _bullets(content["caveats"])]
    parts += _figures(content["figures"])
    for protocol, tables in content["studies"]:
        if len(content["studies"]) > 1:
            parts.append(f"# Protocol {protocol}")
        parts += [_table(table) for table in tables if table.rows]
    parts += [_table(table) for table in content["answers"] if table.rows]
    parts += ["## Provenance", _bullets([f"{key}: {value}" for key, value in content["facts"]])]
    parts.append("To reproduce (all other keys are in each run's `config.yaml`):")
    parts.append("```\n" + "\n".join(content["commands"]) + "\n```")
    return "\n\n".join(part for part in parts if part) + "\n"


def _bullets(sentences: list[str]) -> str:
    return "\n".join(f"* {_escape(sentence)}" for sentence in sentences)


def _figures(figures: list[Figure]) -> list[str]:
    """Each figure once; the same figure in another metric is a link."""
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
    words = table.text_columns
    rule = "|" + "|".join([" :--- "] * words + [" ---: "] * (len(table.columns) - words)) + "|"
    rows = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in table.rows]
    note = f"\n\n*{_escape(table.note)}*" if table.note else ""
    return f"## {_escape(table.title)}\n\n" + "\n".join([head, rule, *rows]) + note


def _cell(cell: Cell) -> str:
    text = _escape(cell.text)
    text = f"**{text}**" if cell.strong else text
    sub = cell.sub if cell.sub.startswith("[") or not cell.sub else f"({cell.sub})"
    return f"{text} {_escape(sub)}".strip()


def _escape(text: str) -> str:
    """Names come from folders and files: none may break a table or start markup. Underscores inside a word are safe."""
    for character in "\\`*|":
        text = text.replace(character, "\\" + character)
    return " ".join(re.sub(r"<(?=[a-zA-Z/!?])", "&lt;", text).split())
