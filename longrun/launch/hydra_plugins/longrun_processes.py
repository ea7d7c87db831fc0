"""Two Hydra plug-ins: the launcher `processes` and the sweeper `checked`. The work is in `launch/sweep.py`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher


class ProcessLauncher(Launcher):
    """Runs every job in a process of its own (`longrun.launch.sweep`). Leaves the program when a job has failed."""

    def __init__(self, slots: int | None, nproc: int, grace: float):
        self.slots, self.nproc, self.grace = slots, nproc, grace
        self.checked: dict[tuple[str, ...], Any] = {}  # filled by CheckedSweeper: composing takes its time

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        self.context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from longrun.launch.sweep import Sweep

        jobs = [
            (list(words), self.checked.get(tuple(words)) or check(self.context, self.config, words))
            for words in job_overrides
        ]
        sources = self.config.hydra.runtime.config_sources
        flags = [f"--config-dir={source.path}" for source in sources if source.provider == "command-line"]
        code = Sweep(jobs, slots=self.slots, nproc=self.nproc, grace=self.grace, flags=flags).run()
        if code:
            raise SystemExit(code)
        return []


class CheckedSweeper(BasicSweeper):
    """Hydra's own sweeper, except that it checks every job before the first one starts or a file is written, and that
    what the command line says of a key takes the place of what an experiment sweeps it over."""

    def sweep(self, arguments: list[str]) -> Any:
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        said = {override.key_or_group for override in parser.parse_overrides(arguments)}
        self.params = {key: values for key, values in self.params.items() if key not in said}
        words = parser.parse_overrides([*self._parse_config(), *arguments])
        jobs = [job for batch in self.split_arguments(words, None) for job in batch]
        checked = {tuple(job): check(self.hydra_context, self.config, job) for job in jobs}
        if isinstance(self.launcher, ProcessLauncher):
            self.launcher.checked = checked
        return super().sweep(arguments)

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Done for all batches in `sweep`."""


def check(context: Any, config: Any, overrides: Sequence[str]) -> Any:
    """The checked configuration of one job. Raises ConfigError, ModelError or DataError."""
    from longrun.config.compose import plain
    from longrun.config.cross_checks import train_config

    composed = context.config_loader.load_sweep_config(config, list(overrides))
    return train_config(plain(composed, composed.hydra.runtime.choices))


@dataclass
class ProcessLauncherConfig:
    """Every value comes from the `launch` group, so each of them is written in one place."""

    _target_: str = "hydra_plugins.longrun_processes.ProcessLauncher"
    slots: Any = "${launch.slots}"
    nproc: Any = "${launch.nproc}"
    grace: Any = "${launch.grace}"


@dataclass
class CheckedSweeperConfig:
    _target_: str = "hydra_plugins.longrun_processes.CheckedSweeper"
    max_batch_size: int | None = None
    params: dict[str, str] | None = None


ConfigStore.instance().store(group="hydra/launcher", name="processes", node=ProcessLauncherConfig, provider="longrun")
ConfigStore.instance().store(group="hydra/sweeper", name="checked", node=CheckedSweeperConfig, provider="longrun")
