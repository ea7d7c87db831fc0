"""Progress of a training run on the console: a bar on a terminal, a line every few seconds elsewhere."""

import sys
import time
from typing import Any

from longrun.launch.console import duration
from longrun.runs.metrics import Row

INTERVAL = 5.0  # shortest time between two training lines in seconds


class Progress:
    """Shows every row of metrics.jsonl (`update`) and prints lines beside the bar (`say`)."""

    def __init__(self, steps: int, active: bool = True):
        self.steps, self.active = steps, active
        self.bar: Any = None
        self.printed, self.started, self.first = -INTERVAL, time.monotonic(), 0

    def begin(self, step: int) -> None:
        """Start the clock: the run continues after `step`."""
        self.started, self.first = time.monotonic(), step
        if self.active and sys.stderr.isatty():
            self.bar = Bar(self.steps, step)

    def update(self, row: Row) -> None:
        if not self.active:
            return
        if "valid_loss" in row:
            self.say(f"step {row['step']}/{self.steps}  {figures(row)}")
        elif self.bar is not None:
            self.bar.update(row["step"], figures(row))
        elif time.monotonic() - self.printed >= INTERVAL or row["step"] >= self.steps:
            self.printed = time.monotonic()
            print(f"step {row['step']}/{self.steps}  {figures(row)}  {self.left(row['step'])}", flush=True)

    def left(self, step: int) -> str:
        """The remaining time, `3:07 left`."""
        done = max(1, step - self.first)
        return f"{duration((time.monotonic() - self.started) / done * (self.steps - step))} left"

    def say(self, text: str) -> None:
        if self.bar is not None:
            self.bar.say(text)
        elif self.active:
            print(text, flush=True)

    def end(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


class Bar:
    """A progress bar of rich: step, figures, remaining time."""

    def __init__(self, steps: int, step: int):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self.rich = RichProgress(
            MofNCompleteColumn(),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self.task = self.rich.add_task("", total=steps, completed=step, figures="")
        self.rich.start()

    def update(self, step: int, text: str) -> None:
        self.rich.update(self.task, completed=step, figures=text)

    def say(self, text: str) -> None:
        self.rich.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        self.rich.stop()


def figures(row: Row) -> str:
    """`loss 3.210  1.902 bits/byte  31,000 tokens/s`, with the figures that a row has."""
    formats = (
        ("loss", "loss {:.3f}"),
        ("valid_loss", "validation loss {:.3f}"),
        ("bits_per_byte", "{:.3f} bits/byte"),
        ("valid_bits_per_byte", "{:.3f} bits/byte"),
        ("valid_exact", "{:.1%} right"),
        ("tokens_per_s", "{:,.0f} tokens/s"),
    )
    numbers = {key: value for key, value in row.items() if value is not None and value == value}  # bits/byte may be NaN
    return "  ".join(form.format(numbers[key]) for key, form in formats if key in numbers)
