"""python -m scripts.schemes [--names | --markdown | --overview] [--write FILE ...]: list all position encodings.

--write (`make table`) updates the text between markers in these files: the families and their names between `<!--
schemes: start -->` and `<!-- schemes: end -->`, the whole table between `<!-- table of schemes: start -->` and its end.
--names needs no torch.
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
from longrun.doc_blocks import update_blocks
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
            print(f"{path}: {'rewritten' if write(path) else 'unchanged'}")
    elif options.markdown or options.overview:
        print(table() if options.markdown else overview())
    else:
        print(listing(shutil.get_terminal_size((120, 40)).columns))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.schemes", description="List all position encodings.")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--names", action="store_true", help="one name per line")
    output.add_argument("--markdown", action="store_true", help="the whole table")
    output.add_argument("--overview", action="store_true", help="families and names")
    output.add_argument(
        "--write", nargs="+", type=Path, metavar="FILE", help="update the text between the markers in these files"
    )
    return parser


def listing(width: int) -> str:
    """Text for the terminal: one line per scheme, cut to the width."""
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
    """Markdown: one table per family. folder: the folder of the page, for its links."""
    sources = os.path.relpath(ROOT / "model" / "pe", folder.resolve())
    shape = REFERENCE
    sizes = f"{shape.layers} layers, width {shape.width}, {shape.heads} heads and training length {shape.train_length}"
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
    """Markdown: one line per family, for the README."""
    lines = [f"* **{family}**: {quoted(f.name for f in members)}" for family, members in by_family().items()]
    lines.append(f"* **Position plans** (`positions=`): {quoted(plans.names())}")
    lines.append(f"* **Extensions of a trained model** (`extension=`): {quoted(extensions.names())}")
    return "\n".join(lines)


def quoted(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def write(path: Path) -> bool:
    """Update the text between markers; return whether the file changed. Raises ConfigError if it has no markers."""
    return update_blocks(path, {name: partial(section, path.parent) for name, section in SECTIONS.items()})


SECTIONS = {"schemes": overview, "table of schemes": table}  # name of the markers -> the text between them


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` is not an error
    sys.exit(guarded(main))
