"""docs/gallery.md. Formulas come from the docstrings of the schemes, the one place where they stand."""

import inspect
import re
import textwrap
from collections.abc import Callable
from pathlib import Path

from longrun.gallery.scheme_info import Facts, by_family, linked
from model.pe.registry import schemes

HEAD = """# Gallery

Every position encoding there is, drawn from the code that computes it, before any training: what is learned is as
initialised. `python -m scripts.gallery` draws this page anew.

How to read the pictures. L is the training length (128; dashed orange), and content plays no part: all queries and keys
are alike, so what differs is the work of the encoding.

* **logit by distance**: what the last query of a sequence of 16 L adds to the logit of a key, relative to its own key,
  against the distance on a logarithmic axis. A logit 5 lower is a weight 150 times smaller. A line that ends is a key
  that cannot be seen. Where a query at L sees it otherwise, that is dotted. Where heads differ each has its colour.
* **attention at L, at 4L**: the same for every query (row) and key (column) of the second head; dark is the largest of
  a row, white the logit that the picture names (relative to the darkest), grey hidden.
* **code of each position, cosine of two codes**: what is added to the embedding, and how alike two positions are.

Encodings that read two ids a token are drawn in segments of 16 tokens: the place in the segment and its number.
"""


def page(pictures: dict[str, str], concepts: dict[str, Callable]) -> str:
    """Markdown. pictures: path of each scheme's picture, from the page; concepts: name of a picture -> who draws it."""
    families = {family: members for family, members in by_family().items() if members}
    contents = " · ".join(f"[{title}](#{title.lower().replace(' ', '-')})" for title in ("Ideas", *families))
    parts = [HEAD.rstrip(), contents, "## Ideas"]
    for name, draw in concepts.items():
        parts += [inspect.cleandoc(draw.__doc__ or ""), f"![{name}](gallery/{name}.png)"]
    for family, members in families.items():
        parts.append(f"## {family}")
        for scheme in dict.fromkeys(fact.scheme for fact in members):
            parts += section(scheme, [fact for fact in members if fact.scheme == scheme], pictures)
    return "\n\n".join(parts) + "\n"


def section(scheme: str, members: list[Facts], pictures: dict[str, str]) -> list[str]:
    """What the class says of itself, then its variants; those that look alike share a picture."""
    parts = [f"### {scheme}", explained(schemes.load(scheme).__doc__ or "")]
    drawn: dict[str, list[Facts]] = {}
    for fact in members:
        drawn.setdefault(pictures[fact.name], []).append(fact)
    for picture, alike in drawn.items():
        lines = [f"* `pe={fact.name}`: {linked(fact.summary)}{made_of(fact.name)}" for fact in alike]
        parts += ["\n".join(lines), f"![{alike[0].name}]({picture})"]
    return [*parts, f"[model/pe/{scheme}.py](../model/pe/{scheme}.py)"]


def explained(docstring: str) -> str:
    """A docstring up to its options: paragraphs as they are, what is indented as code, papers as links."""
    kept = []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(docstring)):
        if paragraph.startswith("    "):
            kept.append("```\n" + textwrap.dedent(paragraph) + "\n```")
        elif option := re.search(r"(?m)^(?=[a-z_0-9]+: )", paragraph):
            kept.append(escaped(paragraph[: option.start()].rstrip()))
        else:
            kept.append(escaped(paragraph))
    return "\n\n".join(part for part in kept if part)


def made_of(name: str) -> str:
    """Parts of a hybrid, as short as they were written."""
    options = schemes.options(name)
    keys = schemes.part_lists(options["scheme"])
    return "".join(f"  \n  `{key}: [{', '.join(map(brief, options[key]))}]`" for key in keys)


def brief(part: str | dict) -> str:
    """`rope(base=50000.0)`, `rope + window(size=0.5)`."""
    if isinstance(part, str):
        return part
    nested = next((value for value in part.values() if isinstance(value, list)), None)
    if nested is not None:
        return " + ".join(map(brief, nested))
    return f"{part['name']}({', '.join(f'{k}={v}' for k, v in part.items() if k != 'name')})"


def escaped(text: str) -> str:
    """Markdown that shows the characters of a formula: * and _ and < as they are, but for what stands in backticks."""
    pieces = re.split(r"(`[^`]*`)", text)
    plain = [re.sub(r"([*_<\[\]])", r"\\\1", piece) if i % 2 == 0 else piece for i, piece in enumerate(pieces)]
    return linked("".join(plain))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
