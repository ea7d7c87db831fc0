"""docs/gallery.md. Formulas come from the docstrings of the schemes."""

import inspect
import re
import textwrap
from collections.abc import Callable

from longrun.gallery.scheme_info import Facts, by_family, linked
from model.pe.registry import schemes

HEAD = """# Gallery

Every position encoding, drawn from the code that computes it, with learned parameters at their initial values.
`python -m scripts.gallery` draws this page again.

How to read the pictures. L is the training length (128; dashed orange). All queries and keys are equal, so that every
difference is due to the encoding.

* **logit by distance**: the logit of each key for the last query of a sequence of 16 L, minus the logit of the query's
  own key, against the distance on a logarithmic axis. A logit lower by 5 is a weight 150 times smaller. A line ends
  where keys are masked. If the logits of a query at L differ, they are dotted. If heads differ, each has its colour.
* **attention at L, at 4L**: the same for every query (row) and key (column) of the second head; dark is the largest of
  a row, white the logit given in the picture (relative to the darkest), grey masked.
* **code of each position, cosine of two codes**: the vector added to the embedding, and how similar two are.

Encodings with two position ids per token are drawn in segments of 16 tokens: position in the segment, and its number.
"""


def page(pictures: dict[str, str], concepts: dict[str, Callable]) -> str:
    """Markdown. pictures: path of each scheme's picture, relative to the page.  concepts: name -> function."""
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
    """The docstring of the class, then its variants; variants that look the same share a picture."""
    parts = [f"### {scheme}", docstring_markdown(schemes.load(scheme).__doc__ or "")]
    drawn: dict[str, list[Facts]] = {}
    for fact in members:
        drawn.setdefault(pictures[fact.name], []).append(fact)
    for picture, alike in drawn.items():
        lines = [f"* `pe={fact.name}`: {linked(fact.summary)}{parts_of(fact.name)}" for fact in alike]
        parts += ["\n".join(lines), f"![{alike[0].name}]({picture})"]
    return [*parts, f"[model/pe/{scheme}.py](../model/pe/{scheme}.py)"]


def docstring_markdown(docstring: str) -> str:
    """A docstring up to its options: indented paragraphs as code, papers as links."""
    parts = []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(docstring)):
        if paragraph.startswith("    "):
            parts.append("```\n" + textwrap.dedent(paragraph) + "\n```")
        elif option := re.search(r"(?m)^(?=[a-z_0-9]+: )", paragraph):
            parts.append(escaped(paragraph[: option.start()].rstrip()))
        else:
            parts.append(escaped(paragraph))
    return "\n\n".join(part for part in parts if part)


def parts_of(name: str) -> str:
    """The parts of a hybrid in short form; "" for other schemes."""
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
    """Markdown in which *, _ and < outside backticks are shown as characters."""
    pieces = re.split(r"(`[^`]*`)", text)
    plain = [re.sub(r"([*_<\[\]])", r"\\\1", piece) if i % 2 == 0 else piece for i, piece in enumerate(pieces)]
    return linked("".join(plain))
