"""python -m scripts.dashboard FOLDER... [--mode online] [--workspace]: runs compared in wandb, as in report.html.

    python -m scripts.dashboard runs                              the report as an offline run, for `wandb sync`
    python -m scripts.dashboard runs --mode online --workspace    and a workspace of panels beside it

The report's figures, tables and page become a run of job_type "report". The workspace compares schemes by what their
training runs log, so it includes runs that are added later. It needs a login and `pip install -e '.[dashboard]'`.
"""

import argparse
import sys
from pathlib import Path

from longrun.base.errors import ConfigError
from longrun.config.cli import guarded
from longrun.report.report import output_folder
from longrun.tracking.dashboard import upload, workspace


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.workspace and options.mode != "online":
        raise ConfigError("--workspace: a workspace lives on the server.\nTry --mode online --workspace")
    if options.workspace:  # first: it refuses a missing login before anything is written
        print(workspace(options.project, options.entity).save().url)
    out = output_folder(options.paths, options.out)
    print(upload(options.paths, out, options.project, options.entity, online=options.mode == "online"))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.dashboard", description="Compare runs in wandb.")
    parser.add_argument("paths", nargs="+", type=Path, metavar="FOLDER", help="the root of your runs, or run folders")
    parser.add_argument("--mode", choices=("offline", "online"), default="offline", help="offline writes files only")
    parser.add_argument("--project", default="longrun", help="as tracker.project of the runs")
    parser.add_argument("--entity", help="team or user")
    parser.add_argument("--workspace", action="store_true", help="also build the workspace of panels (online)")
    parser.add_argument("--out", type=Path, help="where the report and wandb's files are written; as scripts.report")
    return parser


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
