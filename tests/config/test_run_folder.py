"""Run folders: names, states, and the lock."""

import fcntl
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from tiny_configs import ROOT, config

from longrun.base.errors import ConfigError
from longrun.config.cross_checks import train_config
from longrun.config.schema import TrainConfig
from longrun.config.validate import dotted_keys
from longrun.runs import run_folder
from longrun.runs.run_folder import UNHASHED_KEYS, RunFolder, hashed_config, list_runs

OTHER = {  # another value for every key that the name must not depend on
    "root": "elsewhere",
    "eval_at_end": False,
    "model.name": "renamed",
    "train.log_every": 7,
    "train.valid_every": 7,
    "train.valid_windows": 7,
    "train.micro_batch": 8,
    "train.threads": 7,
    "train.device": "cuda",
    "train.compile": True,
    "train.checkpoint_activations": True,
    "train.data_parallel": "fsdp",
    "train.timeout": 7.0,
    "data.cache": "/elsewhere",
}
HOLDER = """
import sys, time
from pathlib import Path
from longrun.runs.run_folder import RunFolder
with RunFolder(Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def base() -> TrainConfig:
    return config("")


@pytest.fixture
def one(base: TrainConfig, tmp_path: Path) -> TrainConfig:
    return replace(base, root=str(tmp_path / "runs"))


def changed(base: TrainConfig, key: str, value: object) -> TrainConfig:
    copy = deepcopy(base)
    target, *path = copy, *key.split(".")
    for part in path[:-1]:
        target = getattr(target, part)
    object.__setattr__(target, path[-1], value)  # `data` is frozen
    return copy


def hold(path: Path) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(ROOT)}
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_name_says_what_is_in_it(base: TrainConfig):
    assert re.fullmatch(r"rope-tiny-stdlib-L128-s0-[0-9a-f]{8}", run_folder.name(base))
    assert run_folder.name(changed(base, "data.name", "a b/../c")).startswith("rope-tiny-a_b_.._c-L128")


@pytest.mark.parametrize("key", OTHER)
def test_name_ignores_what_leaves_the_weights_alone(base: TrainConfig, key: str):
    assert run_folder.fingerprint(changed(base, key, OTHER[key])) == run_folder.fingerprint(base)


def test_name_depends_on_every_other_key(base: TrainConfig):
    ignored = tuple(UNHASHED_KEYS)
    seen = {run_folder.fingerprint(base)}
    for key, _, _ in dotted_keys(TrainConfig):
        if not any(key == name or key.startswith(f"{name}.") for name in ignored):
            seen.add(run_folder.fingerprint(changed(base, key, "something else")))
    expected = [k for k, _, _ in dotted_keys(TrainConfig) if not any(f"{k}.".startswith(f"{n}.") for n in ignored)]
    assert len(expected) > 30
    assert len(seen) == len(expected) + 1


def test_every_ignored_key_has_a_reason_and_exists(base: TrainConfig):
    assert all(UNHASHED_KEYS.values())
    assert "root" not in hashed_config(base)
    assert "lr" in hashed_config(base)["optim"]


def test_the_stored_configuration_names_the_same_folder(one: TrainConfig):
    folder = RunFolder.of(one)
    folder.create(one)
    assert RunFolder.of(train_config(folder.config())) == folder
    assert yaml.safe_load((folder.path / "config.yaml").read_text())["pe"]["name"] == "rope"


def test_environment_is_enough_to_repeat(one: TrainConfig):
    folder = RunFolder.of(one)
    folder.create(one)
    found = json.loads((folder.path / "environment.json").read_text())
    assert found["packages"]["torch"].startswith("2.")
    assert set(found) == {"python", "packages", "platform", "cpu", "cores", "commit", "command"}


def test_states(one: TrainConfig):
    folder = RunFolder.of(one)
    assert (folder.started, folder.finished, folder.summary()) == (False, False, None)
    with folder.lock():
        folder.create(one)
    assert (folder.started, folder.finished) == (True, False)
    folder.finish({"loss": 1.5})
    assert (folder.started, folder.finished, folder.summary()) == (True, True, {"loss": 1.5})
    assert list_runs(one.root) == [folder]
    assert list_runs(Path(one.root) / "none") == []
    assert [path.name for path in folder.path.glob(".*")] == []


def test_second_process_is_told_who_holds_the_folder(one: TrainConfig):
    folder = RunFolder.of(one)
    holder = hold(folder.path)
    try:
        with pytest.raises(ConfigError, match=f"in use by process {holder.pid} on "), folder.lock():
            pass
    finally:
        holder.kill()
        holder.wait()
    with folder.lock():  # the lock went with its process
        assert str(os.getpid()) in (folder.path / "lock").read_text()


def test_twenty_at_once_and_one_gets_in(one: TrainConfig):
    folder = RunFolder.of(one)
    with ThreadPoolExecutor(20) as pool:
        files = [f for f in pool.map(lambda _: attempt(folder), range(20)) if f]
    assert len(files) == 1
    files[0].close()


def attempt(folder: RunFolder):
    folder.path.mkdir(parents=True, exist_ok=True)
    try:
        return folder._locked()
    except ConfigError:
        return None


def test_a_refusal_under_the_lock_leaves_no_folder(one: TrainConfig):
    folder = RunFolder.of(one)
    with pytest.raises(ConfigError, match="no such text"), folder.lock():
        raise ConfigError("no such text")
    assert not folder.path.exists()


def test_a_failure_after_the_start_keeps_the_folder(one: TrainConfig):
    folder = RunFolder.of(one)
    with pytest.raises(ZeroDivisionError), folder.lock():
        raise_after(folder.create, one)
    assert folder.started


def raise_after(call, argument: object) -> None:
    call(argument)
    raise ZeroDivisionError


def test_root_that_is_a_file(one: TrainConfig):
    Path(one.root).write_text("not a folder")
    with pytest.raises(ConfigError, match="root="), RunFolder.of(one).lock():
        pass


def test_lock_is_a_kernel_lock(one: TrainConfig):
    """Nothing but the open file holds it: another descriptor of the same process is kept out too."""
    folder = RunFolder.of(one)
    with folder.lock(), (folder.path / "lock").open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
