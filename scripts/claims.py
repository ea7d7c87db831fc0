"""python -m scripts.claims [--run] [--set cpu|gpu]: published claims against our own numbers.

Reads the finished runs of configs/experiment, prints a verdict per claim, and updates docs/results.md. With --run the
missing runs are trained first; a later call continues where an earlier one was stopped (--minutes).
"""

import argparse
import signal
import sys
from pathlib import Path

from longrun.base.paths import ROOT
from longrun.claims.evidence import experiments
from longrun.claims.results import SIZES, claim_result, format_result, update_page
from longrun.claims.rules import RULES
from longrun.claims.sweeps import STOPPED, run_sweeps
from longrun.config.cli import guarded


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    selected = [each for each in experiments() if not options.only or each.name in options.only]
    if options.run:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, so that the sweep ends too
        code = run_sweeps(selected, options.set, options.root, options.minutes)
        if code:
            message = "stopped: the same command continues" if code == STOPPED else "some runs failed: see above"
            print(message, file=sys.stderr)
    results = [claim_result(each, options.set, options.root) for each in selected]
    print("\n".join(map(format_result, results)))
    if any(each.finding for each in results):
        everything = [claim_result(each, options.set, options.root) for each in experiments()]
        update_page(options.out, options.set, everything)
        print(f"\n{options.out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.claims", description="Published claims, and our numbers.")
    parser.add_argument("--run", action="store_true", help="train and evaluate the missing runs")
    parser.add_argument("--set", choices=SIZES, default="cpu", help="size of the models")
    parser.add_argument("--only", nargs="+", choices=sorted(RULES), metavar="NAME", help=", ".join(sorted(RULES)))
    parser.add_argument("--minutes", type=float, help="time limit of the runs; the next call continues")
    parser.add_argument("--root", type=Path, help="folder of the runs, instead of runs/claims")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results.md", help="the file to update")
    return parser


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
