"""python -m scripts.schemes [--names | --markdown | --overview] [--write FILE ...]: every position encoding there is.

--write (`make table`) renews what stands between `<!-- schemes: start -->` and `<!-- schemes: end -->`, the families
and their names, and between `<!-- table of schemes: start -->` and its end, the whole table. --names needs no torch.
"""

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from longrun.base.paths import ROOT
from longrun.config.cli import guarded
from longrun.doc_blocks import renew
from longrun.gallery.scheme_info import REFERENCE, Facts, by_family, linked
from model.extension.registry import extensions
from model.pe.registry import names
from model.positions.registry import plans


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.names:
        print("\n".join(names()))
    elif options.write:
        for path in options.write:
            print(f"{path}: {'rewritten' if write(path) else 'as it was'}")
    elif options.markdown or options.overview:
        print(table() if options.markdown else overview())
    else:
        print(listing(shutil.get_terminal_size((120, 40)).columns))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.schemes", description="Every position encoding there is.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--names", action="store_true", help="one name a line")
    what.add_argument("--markdown", action="store_true", help="the whole table")
    what.add_argument("--overview", action="store_true", help="families and names")
    what.add_argument(
        "--write", nargs="+", type=Path, metavar="FILE", help="put them between the markers in these files"
    )
    return parser


def listing(width: int) -> str:
    """For the terminal: one line a scheme, cut to the width."""
    lines = []
    for family, members in by_family().items():
        lines += ["", family]
        for fact in members:
            left = f"  {fact.name:<24}{', '.join(fact.acts) or '-':<33}{learned(fact):>17}  "
            lines.append(f"{left}{fact.summary}"[:width])
    return "\n".join(lines[1:])


def learned(fact: Facts) -> str:
    if not fact.parameters:
        return "-"
    return f"{fact.parameters:,}{' (layers)' if fact.per_layer else ''}"


def table(folder: Path = ROOT / "docs") -> str:
    """Markdown: a table for each family. folder: where the page lies that it is for."""
    sources = os.path.relpath(ROOT / "model" / "pe", folder.resolve())
    of = REFERENCE
    sizes = f"{of.layers} layers, width {of.width}, {of.heads} heads and training length {of.train_length}"
    lines = [f"Learned parameters and sizes are those of a model with {sizes}."]
    for family, members in by_family().items():
        lines += [
            "",
            f"### {family}",
            "",
            "| `pe=` | what it is | acts on | relative | learned | past the training length |",
        ]
        lines.append("|---|---|---|---|---|---|")
        for fact in members:
            cells = (
                f"[`{fact.name}`]({sources}/{fact.scheme}.py)",
                linked(fact.summary),
                ", ".join(fact.acts) or "–",
                "yes" if fact.relative else "no",
                learned(fact).replace("-", "–"),
                fact.length,
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def overview(folder: Path = ROOT) -> str:
    """Markdown: one line a family, for the README."""
    lines = [f"* **{family}**: {quoted(f.name for f in members)}" for family, members in by_family().items()]
    lines.append(f"* **Position plans** (`positions=`): {quoted(plans.names())}")
    lines.append(f"* **Extensions of a trained model** (`extension=`): {quoted(extensions.names())}")
    return "\n".join(lines)


def quoted(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def write(path: Path) -> bool:
    """Renew the parts of a page between markers; whether that changed it. Raises ConfigError if it has none."""
    return renew(path, {what: partial(make, path.parent) for what, make in MADE.items()})


MADE = {"schemes": overview, "table of schemes": table}  # what stands between markers of this name


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` is not an error
    sys.exit(guarded(main))
