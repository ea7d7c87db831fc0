"""python -m scripts.report <root or run folders> [--out FOLDER]: report.html, report.md, report.json and figures/.

Compares the evaluated runs and refuses what cannot be compared.
"""

import argparse
import sys
from pathlib import Path

from longrun.config.cli import guarded
from longrun.report.report import output_folder, report


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.report",
        description="Compare evaluated runs: report.html (one file, works offline), report.md, report.json, figures.",
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="FOLDER", help="the root of your runs, or run folders")
    parser.add_argument("--out", type=Path, help="where to write (default: the root; their common parent for several)")
    options = parser.parse_args(arguments)
    print("\n".join(map(str, report(options.paths, output_folder(options.paths, options.out)))))
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
