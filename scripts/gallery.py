"""python -m scripts.gallery [--out docs/gallery] [--only NAME ...]: a picture of every scheme, and gallery.md beside.

Chosen by the hooks that a scheme overrides, never by its name: a new scheme has a picture as soon as it has a file.
"""

import argparse
import sys
from pathlib import Path

from longrun.config.cli import guarded
from model.errors import ModelError
from model.pe.registry import names, schemes


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    for name in options.only or []:
        schemes.options(name)  # refuses an unknown one, before torch is imported
    if options.out.exists() and not options.out.is_dir():
        raise ModelError(f"--out {options.out} is a file; give a folder (it is created if it does not exist)")

    from longrun.gallery.concepts import CONCEPTS
    from longrun.gallery.panels import save

    pictures = draw_schemes(options.out, options.only or names())
    if not options.only:
        from longrun.gallery.page import page, write

        for name, draw in CONCEPTS.items():
            save(draw(), options.out / f"{name}.png")
        write(options.out.with_suffix(".md"), page(pictures, CONCEPTS))
    print(f"{len(set(pictures.values()))} pictures in {options.out}")
    return 0


def draw_schemes(folder: Path, chosen: list[str]) -> dict[str, str]:
    """Draw each scheme; the picture's path by name, relative to the page.

    What looks alike is drawn once, under the name of the scheme itself if that is among them.
    """
    import torch

    from longrun.gallery.panels import portrait_figure, save
    from longrun.gallery.probe import portrait, same_picture

    torch.set_num_threads(1)  # small tensors: more threads only wait for each other
    drawn: dict[str, str] = {}
    pictures = {}
    for name in sorted(chosen, key=lambda name: name != schemes.options(name)["scheme"]):
        look = same_picture(name)
        if look not in drawn:
            save(portrait_figure(portrait(name)), folder / f"{name}.png")
            drawn[look] = f"{folder.name}/{name}.png"
        pictures[name] = drawn[look]
    return pictures


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.gallery", description="A picture of every scheme.")
    parser.add_argument("--out", type=Path, default=Path("docs/gallery"), metavar="FOLDER", help="default docs/gallery")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these schemes, and no page")
    return parser


if __name__ == "__main__":
    sys.exit(guarded(main))
