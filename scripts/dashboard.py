"""python -m scripts.dashboard FOLDER... [--mode online] [--workspace]: runs compared in wandb, as in report.html.

    python -m scripts.dashboard runs                              the report as an offline run, for `wandb sync`
    python -m scripts.dashboard runs --mode online --workspace    and a workspace of panels beside it

The report's figures, tables and page become a run of job_type "report". The workspace has the panels that compare
schemes; it is made of what the training runs logged, so it goes on being true of new ones. It needs a login, and
`pip install -e '.[dashboard]'`.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from longrun.base.errors import ConfigError
from longrun.config.cli import guarded
from longrun.report.tables import Table
from scripts import report

MULTIPLES = ("ppl@1x", "ppl@4x", "ppl@4x/ppl@1x", "usable_length")


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.workspace and options.mode != "online":
        raise ConfigError("--workspace: a workspace lives on the server.\nTry --mode online --workspace")
    if options.workspace:
        address(workspace(options))  # first: it refuses a missing login before anything is written
    print(upload(options))
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


def upload(options: argparse.Namespace) -> str:
    """Write the report and log it as one run; says where it is."""
    import wandb

    out = report.folder_of(options.paths, options.out)
    name, content, data = report.compose(options.paths, out)
    report.write(out, name, content, data)
    run = wandb.init(
        project=options.project,
        entity=options.entity,
        mode=options.mode,
        job_type="report",
        name=f"report of {out.resolve().name}",
        dir=str(out),
        settings=wandb.Settings(silent=True, console="off"),
    )
    try:
        for path in sorted((out / "figures").glob("*.png")):
            run.log({f"figures/{path.stem}": wandb.Image(str(path))})
        for protocol, tables in [*content["studies"], ("answers", content["answers"])]:
            for each in tables:
                run.log({f"tables/{protocol}/{each.name}": wandb.Table(*cells(each))})
        run.log({"report": wandb.Html(str(out / "report.html"), inject=False)})
        run.summary["headline"] = content["headline"]
    finally:
        run.finish()
    return f"{run.url or run.dir}" if options.mode == "online" else f"wandb sync {Path(run.dir).parent}"


def cells(table: Table) -> tuple[list[str], list[list[str]]]:
    """Columns and rows, each cell with the interval that belongs to it."""
    return table.columns, [[f"{cell.text} {cell.sub}".strip() for cell in row] for row in table.rows]


def workspace(options: argparse.Namespace) -> Any:
    """The panels as an object of wandb_workspaces; nothing is sent. Raises ConfigError without a login."""
    try:
        import wandb_workspaces.reports.v2 as panels
        import wandb_workspaces.workspaces as ws
    except ImportError:
        raise ConfigError(
            "--workspace: the package that builds workspaces is not installed.\nTry pip install -e '.[dashboard]'"
        ) from None
    from wandb.errors import CommError, UsageError

    def lines(x: str, *y: str, **looks: Any) -> Any:
        return panels.LinePlot(x=x, y=list(y), groupby=panels.Config("scheme"), groupby_rangefunc="minmax", **looks)

    length, prefix = "extrapolation/length", "extrapolation"
    sections = {
        "Beyond the training length": [
            lines(length, f"{prefix}/ppl", title="perplexity", log_x=True, log_y=True),
            lines(length, f"{prefix}/window/ppl", title="perplexity, windowed control", log_x=True, log_y=True),
            lines(length, f"{prefix}/bits_per_byte", title="bits per byte", log_x=True),
            *(panels.BarPlot(metrics=[name], groupby=panels.Config("scheme"), title=name) for name in MULTIPLES),
        ],
        "Right answers": [lines(length, f"{prefix}/exact_match/exact", title="exact match", log_x=True)],
        "Training": [
            lines("tokens", "loss", title="training loss"),
            lines("tokens", "valid_bits_per_byte", title="validation bits per byte"),
            lines("tokens", "grad_norm", title="gradient norm", log_y=True),
            lines("tokens", "tokens_per_s", title="tokens per second"),
        ],
        "Figures and tables of reports": [panels.MediaBrowser(media_keys=["figures/perplexity", "report"])],
    }
    try:
        return ws.Workspace(
            entity=options.entity or _login(),
            project=options.project,
            name="longrun: schemes compared",
            sections=[ws.Section(name=name, panels=found, is_open=True) for name, found in sections.items()],
            runset_settings=ws.RunsetSettings(groupby=[ws.Config("scheme"), ws.Config("train_length")]),
        )
    except (CommError, UsageError) as error:
        raise ConfigError(f"--workspace: {error}\nTry wandb login") from error


def _login() -> str:
    """The account's default team or user."""
    import wandb

    found = wandb.Api(timeout=10).default_entity
    if not found:
        raise ConfigError("--workspace: not logged in to wandb.\nTry wandb login, or give --entity")
    return found


def address(made: Any) -> None:
    print(made.save().url)


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
