"""python -m scripts.gallery [--out docs/gallery] [--only NAME ...]: a picture of every scheme, and gallery.md beside.

The panels depend on the hooks that a scheme overrides, so a new scheme needs no code here.
"""

import argparse
import sys
from pathlib import Path

from longrun.base.errors import ConfigError
from longrun.config.cli import guarded
from model.pe.registry import schemes


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.gallery", description="A picture of every scheme.")
    parser.add_argument("--out", type=Path, default=Path("docs/gallery"), metavar="FOLDER", help="default docs/gallery")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these schemes, and no page")
    options = parser.parse_args(arguments)
    for name in options.only or []:
        schemes.options(name)  # refuses an unknown name before torch is imported
    if options.out.exists() and not options.out.is_dir():
        raise ConfigError(f"--out {options.out} is a file; give a folder (it is created if it does not exist)")

    from longrun.gallery.draw import draw_gallery, draw_schemes

    count = len(set(draw_schemes(options.out, options.only).values())) if options.only else draw_gallery(options.out)
    print(f"{count} pictures in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
