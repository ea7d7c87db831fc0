"""The report as a wandb run, and a wandb workspace that compares schemes."""

from pathlib import Path
from typing import Any

from longrun.base.errors import ConfigError
from longrun.report import report
from longrun.report.compose import compose
from longrun.report.tables import Table

MULTIPLES = ("ppl@1x", "ppl@4x", "ppl@4x/ppl@1x", "usable_length")


def upload(paths: list[Path], out: Path, project: str, entity: str | None, online: bool) -> str:
    """Write the report to `out` and log it as one run of job_type "report".

    Returns the run's address, or the command that synchronises it.
    """
    import wandb

    content = compose(paths, out)
    report.write(content, out)
    run = wandb.init(
        project=project,
        entity=entity,
        mode="online" if online else "offline",
        job_type="report",
        name=f"report of {out.resolve().name}",
        dir=str(out),
        settings=wandb.Settings(silent=True, console="off"),
    )
    try:
        for path in sorted((out / "figures").glob("*.png")):
            run.log({f"figures/{path.stem}": wandb.Image(str(path))})
        for protocol, tables in [*content.protocols, ("answers", content.tasks)]:
            for each in tables:
                run.log({f"tables/{protocol}/{each.name}": wandb.Table(*_columns_and_rows(each))})
        run.log({"report": wandb.Html(str(out / "report.html"), inject=False)})
        run.summary["headline"] = content.headline
    finally:
        run.finish()
    return f"{run.url or run.dir}" if online else f"wandb sync {Path(run.dir).parent}"


def _columns_and_rows(table: Table) -> tuple[Any, Any]:
    """Each cell with the interval that belongs to it."""
    return table.columns, [[f"{cell.text} {cell.sub}".strip() for cell in row] for row in table.rows]


def workspace(project: str, entity: str | None) -> Any:
    """The panels as an object of wandb_workspaces; nothing is sent before its `save`.

    Raises ConfigError without a login or without the package.
    """
    try:
        import wandb_workspaces.workspaces as ws
    except ImportError:
        raise ConfigError(
            "--workspace: the package that builds workspaces is not installed.\nTry pip install -e '.[dashboard]'"
        ) from None
    from wandb.errors import CommError, UsageError

    try:
        return ws.Workspace(
            entity=entity or _default_entity(),
            project=project,
            name="longrun: schemes compared",
            sections=[ws.Section(name=name, panels=panels, is_open=True) for name, panels in _panels().items()],
            runset_settings=ws.RunsetSettings(groupby=[ws.Config("scheme"), ws.Config("train_length")]),
        )
    except (CommError, UsageError) as error:
        raise ConfigError(f"--workspace: {error}\nTry wandb login") from error


def _panels() -> dict[str, list[Any]]:
    """Section -> panels, drawn from what training runs log."""
    import wandb_workspaces.reports.v2 as panels

    def lines(x: str, *y: str, **options: Any) -> Any:
        return panels.LinePlot(x=x, y=list(y), groupby=panels.Config("scheme"), groupby_rangefunc="minmax", **options)

    length, prefix = "extrapolation/length", "extrapolation"
    return {
        "Beyond the training length": [
            lines(length, f"{prefix}/ppl", title="perplexity", log_x=True, log_y=True),
            lines(length, f"{prefix}/window/ppl", title="perplexity, windowed control", log_x=True, log_y=True),
            lines(length, f"{prefix}/bits_per_byte", title="bits per byte", log_x=True),
            *(panels.BarPlot(metrics=[name], groupby=panels.Config("scheme"), title=name) for name in MULTIPLES),
        ],
        "Accuracy": [lines(length, f"{prefix}/exact_match/exact", title="exact match", log_x=True)],
        "Training": [
            lines("tokens", "loss", title="training loss"),
            lines("tokens", "valid_bits_per_byte", title="validation bits per byte"),
            lines("tokens", "grad_norm", title="gradient norm", log_y=True),
            lines("tokens", "tokens_per_s", title="tokens per second"),
        ],
        "Figures and tables of reports": [panels.MediaBrowser(media_keys=["figures/perplexity", "report"])],
    }


def _default_entity() -> str:
    """The account's default team or user. Raises ConfigError without a login."""
    import wandb

    entity = wandb.Api(timeout=10).default_entity
    if not entity:
        raise ConfigError("--workspace: not logged in to wandb.\nTry wandb login, or give --entity")
    return entity
