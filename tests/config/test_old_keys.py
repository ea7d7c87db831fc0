"""Renamed keys: refused on the command line, read from files of before, and left out of what a run is called."""

from pathlib import Path

import pytest
import yaml
from tiny_configs import config

from longrun.base.errors import ConfigError
from longrun.config.cross_checks import train_config
from longrun.config.schema import TrainConfig
from longrun.config.validate import dotted_keys
from longrun.runs import run_folder
from longrun.runs.run_folder import RunFolder
from model.old_keys import OLD_KEYS, rename_all, renamed, with_old_names

BEFORE = yaml.safe_load((Path(__file__).parent / "runs_of_before.yaml").read_text())
KEYS = {key for key, _, _ in dotted_keys(TrainConfig)}


@pytest.mark.parametrize("old", OLD_KEYS)
def test_an_old_key_is_refused_with_the_new_one(old: str):
    with pytest.raises(ConfigError) as refusal:
        config(f"{old}=1")
    assert str(refusal.value) == f"{old}=1: {old} was renamed, write {OLD_KEYS[old]}=1"


@pytest.mark.parametrize("old", OLD_KEYS)
def test_the_new_key_exists_in_the_same_section(old: str):
    assert OLD_KEYS[old] in KEYS
    assert OLD_KEYS[old].split(".")[0] == old.split(".")[0]


def test_names_are_replaced_and_back():
    old = {"seed": 0, "optim": {"lr": 1.0, "final_lr": 0.1}, "train": {"parallel": "ddp"}, "pe": {"hidden": 32}}
    new = rename_all(old)
    assert new == {
        "seed": 0, "optim": {"lr": 1.0, "min_lr_ratio": 0.1}, "train": {"data_parallel": "ddp"}, "pe": {"hidden": 32},
    }  # fmt: skip
    assert with_old_names(new) == old
    assert rename_all(new) == new
    assert list(renamed("optim", {"final_lr": 1, "lr": 2})) == ["min_lr_ratio", "lr"]


@pytest.mark.parametrize("name", BEFORE["pe"])
def test_a_run_of_before_has_the_name_it_had(name: str, tmp_path: Path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**BEFORE["common"], "pe": BEFORE["pe"][name]}))
    values = RunFolder(tmp_path).config()
    assert "min_lr_ratio" in values["optim"]
    checked = train_config(values)
    assert run_folder.name(checked) == name


@pytest.mark.parametrize("name", BEFORE["pe"])
def test_the_command_of_today_finds_a_run_of_before(name: str):
    assert run_folder.name(config(f"experiment=demo pe={BEFORE['pe'][name]['name']}")) == name
