"""List the runs in a folder, or show the keys in which two runs differ.

    python -m scripts.runs [ROOT ...]
    python -m scripts.runs --diff RUN RUN

A run is `done`, `running` (a process holds its lock), `stopped` (its command continues it) or `empty`.
"""

import argparse
import sys
from pathlib import Path

from longrun.config.cli import guarded
from longrun.runs.listing import config_difference, find_runs, table
from longrun.runs.run_folder import resolve_run


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.runs", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("roots", nargs="*", default=["runs"], metavar="ROOT", help="folder of runs (default: runs)")
    parser.add_argument("--diff", nargs=2, metavar="RUN", help="the keys in which two runs differ")
    options = parser.parse_args(arguments)
    if options.diff:
        first, second = (Path(resolve_run(path)) for path in options.diff)
        print(config_difference(first, second) or "the configurations are the same")
    else:
        print(table(find_runs(options.roots)))
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
