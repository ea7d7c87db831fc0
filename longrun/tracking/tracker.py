"""The outputs of a run while it trains: metrics.jsonl, the console and wandb. Only metrics.jsonl is read back."""

import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from longrun.config.schema import TrainConfig
from longrun.runs.environment import commit
from longrun.runs.metrics import Metrics, Row
from longrun.runs.run_folder import RunFolder
from longrun.tracking import wandb_metrics
from longrun.tracking.console import Progress

TIMEOUT = 6  # seconds that wandb may delay a run for a connection, and again for the end of an upload


class Tracker:
    """The outputs of one rank; only the active one (rank 0) writes. A context manager.

    with Tracker(config, folder, active=rank == 0, run_info={"parameters": ...}) as tracker:
        tracker.resume(step)     first: rows after `step` are dropped
        tracker.train(row); tracker.valid(row)
        tracker.flush()          before every checkpoint
        tracker.curves(records)  the evaluation
    """

    def __init__(self, config: TrainConfig, folder: RunFolder, active: bool = True, run_info: Row | None = None):
        self.metrics = Metrics(folder.path / "metrics.jsonl", write=active)
        self.progress = Progress(config.train.steps, active)
        self.wandb = Wandb(config, folder, run_info or {}) if active and config.tracker.mode != "off" else None

    def __enter__(self) -> "Tracker":
        if self.wandb:
            self.wandb.start()
        return self

    def __exit__(self, kind: type | None, *_: Any) -> None:
        self.progress.end()
        try:
            self.metrics.close()
        finally:
            if self.wandb:
                self.wandb.finish(failed=kind is not None)

    def resume(self, step: int) -> None:
        self.metrics.resume(step)
        self.progress.begin(step)

    def train(self, row: Row) -> None:
        """Record a row of training: step, tokens, loss, bits_per_byte, lr, grad_norm, tokens_per_s, ..."""
        self._log(row)

    def valid(self, row: Row) -> None:
        """Record a validation: step, tokens, valid_loss, valid_bits_per_byte."""
        self._log(row)

    def curves(self, records: list[Row]) -> None:
        """Record an evaluation: its records, each with one row per length."""
        if self.wandb:
            self.wandb.curves(records)

    def say(self, text: str) -> None:
        self.progress.say(text)

    def rows(self) -> list[Row]:
        """All rows so far, including those of earlier launches; the same on all ranks."""
        return list(self.metrics.rows)

    def flush(self) -> None:
        self.metrics.sync()

    def _log(self, row: Row) -> None:
        self.metrics.append(row)
        self.progress.update(row)
        if self.wandb:
            self.wandb.log(row)


class Wandb:
    """A mirror of the metrics. An exception of wandb ends the mirroring with one warning, and never the run."""

    def __init__(self, config: TrainConfig, folder: RunFolder, run_info: Row):
        self.config, self.folder, self.run_info = config, folder, run_info
        self.run: Any = None
        self.warned = False

    def start(self) -> None:
        """Start the mirror. Online falls back to offline (no network, no login), and offline to no mirror."""
        modes = ["online", "offline"] if self.config.tracker.mode == "online" else ["offline"]
        for mode in modes:
            try:
                self.run = self._init(mode)
                return
            except Exception as error:
                instead = "writing offline files instead" if mode == "online" else "continuing without it"
                self._warn(error, instead)

    def _init(self, mode: str) -> Any:
        import wandb

        wandb.setup(wandb.Settings(silent=True))  # before `init`, because the login prints
        tracker, scheme = self.config.tracker, self.config.pe["name"]
        run = wandb.init(
            mode=mode,  # pyright: ignore[reportArgumentType]
            project=tracker.project,
            entity=tracker.entity,
            group=tracker.group or self.folder.path.name,
            name=self.folder.path.name,
            job_type="train",
            tags=[scheme, f"L{self.config.train.length}", *tracker.tags],
            dir=str(self.folder.path),
            config=asdict(self.config) | self.run_info | {"commit": commit()},  # wandb's table has a column pe.base
            settings=wandb.Settings(
                init_timeout=TIMEOUT, login_timeout=TIMEOUT, finish_timeout=TIMEOUT, silent=True, console="off"
            ),
        )
        run.define_metric("step", hidden=True)
        run.define_metric("*", step_metric="step")
        run.define_metric("extrapolation/*", step_metric="extrapolation/length")
        return run

    def log(self, row: Row) -> None:
        self._try(lambda: self.run.log(row))

    def curves(self, records: list[Row]) -> None:
        """Log the points of every curve, the columns of the table of runs, and all figures as a table."""
        for record in records:
            for row in record["rows"]:
                self._try(lambda record=record, row=row: self.run.log(wandb_metrics.curve_point(record, row)))
            self._try(lambda record=record: self.run.summary.update(wandb_metrics.summary_columns(record)))
        self._try(lambda: self.run.log({"evaluation": self._table(records)}))

    @staticmethod
    def _table(records: list[Row]) -> Any:
        import wandb

        table = wandb.Table(columns=list(wandb_metrics.COLUMNS))
        for row in wandb_metrics.table_rows(records):
            table.add_data(*row)
        return table

    def finish(self, failed: bool) -> None:
        self._try(lambda: self.run.finish(exit_code=int(failed)))

    def _try(self, call: Callable[[], Any]) -> None:
        if self.run is None:
            return
        try:
            call()
        except Exception as error:
            self.run = None
            self._warn(error, "continuing without it")

    def _warn(self, error: Exception, instead: str) -> None:
        if not self.warned:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            print(f"wandb: {reason[:200]} ({instead}; metrics.jsonl has everything)", file=sys.stderr)
        self.warned = True
