"""Two Hydra plug-ins: the launcher `processes` and the sweeper `checked`. The jobs are run by `launch/sweep.py`."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from omegaconf import OmegaConf

from longrun.base.errors import ConfigError


class ProcessLauncher(Launcher):
    """Runs every job in a process of its own (`longrun.launch.sweep`). Raises SystemExit if a job has failed."""

    def __init__(self, slots: int | None, nproc: int, grace: float):
        self.slots, self.nproc, self.grace = slots, nproc, grace
        self.checked: dict[tuple[str, ...], Any] = {}  # filled by CheckedSweeper, because composing is slow

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


class CheckedSweeper(Sweeper):
    """Starts every combination of the values of a command line, after all of them were checked.

    Nothing is written and no job starts before the check. A key of the command line replaces what an experiment sweeps.
    """

    def __init__(self, params: dict[str, str] | None = None):
        self.params = dict(params or {})  # what an experiment sweeps

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        assert self.hydra_context is not None
        assert self.launcher is not None
        assert self.config is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides(arguments)
        cli_keys = {override.key_or_group for override in overrides}
        params = [f"{key}={values}" for key, values in self.params.items() if key not in cli_keys]
        jobs = combinations([*parser.parse_overrides(params), *overrides])
        configs = [check(self.hydra_context, self.config, job) for job in jobs]
        if isinstance(self.launcher, ProcessLauncher):
            self.launcher.checked = {tuple(job): config for job, config in zip(jobs, configs, strict=True)}
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        results = self.launcher.launch(jobs, initial_job_idx=0)
        for result in results:
            _ = result.return_value  # raises the exception of a failed job
        return [results]


def combinations(overrides: Sequence[Override]) -> list[list[str]]:
    """The words of every job: one value of each key, the values of the last key varying fastest."""
    words = {}
    for override in overrides:
        key = override.get_key_element()
        if not override.is_sweep_override():
            words[key] = [f"{key}={override.get_value_element_as_str()}"]
        elif override.is_discrete_sweep():
            words[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            raise ConfigError(f"{override.input_line}: a sweep has separate values.\nTry {key}=1,2,3 or range(1,4)")
    return [list(job) for job in itertools.product(*words.values())]


def check(context: Any, config: Any, overrides: Sequence[str]) -> Any:
    """The checked configuration of one job. Raises ConfigError, ModelError or DataError."""
    from longrun.config.compose import plain_values
    from longrun.config.cross_checks import train_config

    composed = context.config_loader.load_sweep_config(config, list(overrides))
    return train_config(plain_values(composed, composed.hydra.runtime.choices))


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
    params: dict[str, str] | None = None


ConfigStore.instance().store(group="hydra/launcher", name="processes", node=ProcessLauncherConfig, provider="longrun")
ConfigStore.instance().store(group="hydra/sweeper", name="checked", node=CheckedSweeperConfig, provider="longrun")
