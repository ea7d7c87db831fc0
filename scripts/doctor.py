"""Check this machine, and the files of run folders.

    python -m scripts.doctor                     the environment
    python -m scripts.doctor runs/NAME ...       and every byte of these runs' checkpoints

Exit code 0; 1 if something is broken. A missing network or GPU is a note: training needs neither.
"""

import argparse
import sys
from pathlib import Path

from longrun.doctor import BROKEN, checks


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.doctor", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="run folders to check")
    parser.add_argument("--offline", action="store_true", help="do not try the network")
    options = parser.parse_args(arguments)
    broken = False
    for check in checks(options.runs, network=not options.offline):
        print(check, flush=True)
        broken |= check.state == BROKEN
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
