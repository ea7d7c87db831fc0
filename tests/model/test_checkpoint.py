import json
import logging
import shutil
import stat
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from tiny_training import Net, draws, restore, train

from longrun.training.optimizers import build_optimizer
from model.checkpoint import files as checkpoint
from model.checkpoint.rng import rng_state, set_rng_state
from model.errors import ModelError

torch.set_num_threads(1)


class Counting(torch.optim.SGD):
    """Steps get smaller with a count that is a Python number in each parameter's state."""

    @torch.no_grad()
    def step(self):
        for p in self.param_groups[0]["params"]:
            count = self.state[p]["count"] = self.state[p].get("count", 0) + 1
            p -= self.param_groups[0]["lr"] / count * p.grad


MAKERS = {
    "adamw fused": lambda net: build_optimizer(net, "adamw", lr=0.01),
    "adamw one by one": lambda net: torch.optim.AdamW(net.parameters(), lr=0.01, amsgrad=True, fused=False),
    "muon": lambda net: build_optimizer(net, "muon", lr=0.01),
    "sgd": lambda net: torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, nesterov=True),
    "state of other shapes": lambda net: torch.optim.Adafactor(net.parameters(), lr=0.01),
    "python scalars in the state": lambda net: Counting(net.parameters(), lr=0.01),
    "another group order": lambda net: torch.optim.AdamW(
        [{"params": [p]} for p in reversed(list(net.parameters()))], lr=0.01, fused=True
    ),
}


def saved(folder: Path, *steps: int, keep: int = 2) -> tuple[Net, torch.optim.Optimizer]:
    net = Net()
    optimizer = build_optimizer(net)
    train(net, optimizer, range(1))
    for step in steps:
        checkpoint.save(folder, step, net, optimizer, {"step": step}, keep=keep)
    return net, optimizer


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def everything(net: Net, optimizer) -> dict[str, torch.Tensor]:
    of = {id(p): name for name, p in net.named_parameters()}
    state = {
        f"{of[id(p)]}/{key}": torch.as_tensor(value) for p, s in optimizer.state.items() for key, value in s.items()
    }
    return {**dict(net.named_parameters()), **dict(net.named_buffers()), **state}


def assert_identical(mine: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert tensor.dtype == theirs[name].dtype, name
        assert torch.equal(tensor, theirs[name]), name


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS.keys())
def test_training_continues_bit_for_bit_with_dropout(maker, tmp_path: Path):
    straight = Net()
    optimizer = maker(straight)
    train(straight, optimizer, range(6))
    checkpoint.save(tmp_path, 6, straight, optimizer, {"step": 6})
    losses = train(straight, optimizer, range(6, 12))
    following = draws()

    resumed = Net(seed=99)
    second = maker(resumed)
    train(resumed, second, range(2))  # a past of its own, to be forgotten
    found = restore(tmp_path, resumed, second)
    assert found.step == found.state["step"] == 6
    assert train(resumed, second, range(6, 12)) == losses
    assert draws() == following
    assert_identical(everything(resumed, second), everything(straight, optimizer))


def test_optimizer_state_follows_names_when_groups_are_built_in_another_order(tmp_path: Path):
    net = Net()
    optimizer = MAKERS["adamw fused"](net)
    train(net, optimizer, range(3))
    for number, group in enumerate(optimizer.param_groups):
        group["lr"] = 0.001 * (number + 1)
    checkpoint.save(tmp_path, 3, net, optimizer, {})
    losses = train(net, optimizer, range(3, 6))

    other = Net(seed=5)
    groups = [{"params": [p], "weight_decay": 7.0} for p in reversed(list(other.parameters()))]
    second = torch.optim.AdamW(groups, lr=123.0, fused=True)
    restore(tmp_path, other, second)
    assert train(other, second, range(3, 6)) == losses


def test_state_that_the_saver_had_not_is_forgotten(tmp_path: Path):
    net = Net()
    checkpoint.save(tmp_path, 0, net, build_optimizer(net), {})
    other = Net(seed=2)
    second = build_optimizer(other)
    train(other, second, range(2))
    restore(tmp_path, other, second)
    assert len(second.state) == 0


def test_loading_leaves_nothing_shared_with_the_file_or_the_saver(tmp_path: Path):
    net, optimizer = saved(tmp_path, 1)
    other = Net()
    second = build_optimizer(other)
    restore(tmp_path, other, second)
    before = {name: tensor.clone() for name, tensor in everything(net, optimizer).items()}
    train(other, second, range(3))
    assert_identical(before, everything(net, optimizer))
    restore(tmp_path, other, second)  # verifies the file once more: training did not write through to it
    assert_identical(before, everything(other, second))


def test_dtypes_survive_and_moments_are_not_cast_to_the_weights(tmp_path: Path):
    net = Net().bfloat16()
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    for state in optimizer.state.values():
        state["exp_avg"] = torch.rand(state["exp_avg"].shape)  # float32 beside bfloat16 weights
    checkpoint.save(tmp_path, 1, net, optimizer, {})
    other = Net(seed=3).bfloat16()
    second = torch.optim.AdamW(other.parameters(), fused=True)
    restore(tmp_path, other, second)
    assert_identical(everything(net, optimizer), everything(other, second))
    assert next(iter(second.state.values()))["exp_avg"].dtype == torch.float32


def test_files_and_their_modes(tmp_path: Path):
    """A tied tensor is there once, everyone may read, and every file is safetensors or JSON."""
    saved(tmp_path / "run" / "checkpoints", 5)
    folder = tmp_path / "run" / "checkpoints" / "5"
    assert names(folder) == ["manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o644}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    with safe_open(folder / "model.safetensors", "pt") as stream:
        assert {"embedding.weight", "head.weight"} & set(stream.keys()) == {"embedding.weight"}
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["step"] == 5
    assert manifest["world_size"] == 1
    assert manifest["versions"]["torch"] == torch.__version__
    assert manifest["files"]["state.json"]["bytes"] == (folder / "state.json").stat().st_size


def test_two_views_of_one_memory_are_stored_as_two_tensors(tmp_path: Path):
    net = Net()
    both = torch.arange(6.0)
    net.register_buffer("left", both[:3])
    net.register_buffer("right", both[2:])
    checkpoint.save(tmp_path, 1, net, build_optimizer(net), {})
    other = Net()
    other.register_buffer("left", torch.zeros(3))
    other.register_buffer("right", torch.zeros(4))
    restore(tmp_path, other)
    assert torch.equal(other.left, both[:3])
    assert torch.equal(other.right, both[2:])


def test_only_the_newest_are_kept(tmp_path: Path):
    saved(tmp_path, 8, 9, 10, 11)
    assert names(tmp_path) == ["10", "11"]
    saved(tmp_path, 12, keep=1)
    assert names(tmp_path) == ["12"]
    with pytest.raises(ModelError, match="keep=0"):
        saved(tmp_path, 13, keep=0)


def test_leftovers_are_removed_and_strangers_are_not(tmp_path: Path):
    for name in ("7.abc.tmp", "3.1234.tmp", "best", "08"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"half")
    assert checkpoint.newest(tmp_path) is None
    saved(tmp_path, 7)
    assert names(tmp_path) == ["08", "7", "best"]


def test_saving_a_step_again_replaces_it(tmp_path: Path):
    net, optimizer = saved(tmp_path, 1, 2)
    net.seen.fill_(77)
    checkpoint.save(tmp_path, 2, net, optimizer, {"again": True})
    assert names(tmp_path) == ["1", "2"]
    other = Net()
    assert restore(tmp_path, other).state == {"again": True}
    assert other.seen == 77


def test_a_step_set_aside_by_a_killed_writer_is_found_and_later_tidied(tmp_path: Path):
    net, optimizer = saved(tmp_path, 1, 2)
    (tmp_path / "2").rename(tmp_path / "2.replaced")  # the instant between the two renames of a replacement
    assert checkpoint.newest(tmp_path).step == 2
    shutil.copytree(tmp_path / "2.replaced", tmp_path / "old")
    checkpoint.save(tmp_path, 2, net, optimizer, {"again": True})
    (tmp_path / "old").rename(tmp_path / "2.replaced")  # the instant after them
    assert checkpoint.newest(tmp_path).state == {"again": True}
    (tmp_path / "1").rename(tmp_path / "1.replaced")
    assert names(tmp_path) == ["1.replaced", "2", "2.replaced"]
    checkpoint.save(tmp_path, 3, net, optimizer, {})
    assert names(tmp_path) == ["2", "3"]


def test_a_damaged_later_checkpoint_goes_when_an_earlier_step_is_saved_and_a_whole_one_stays(tmp_path: Path):
    saved(tmp_path, 30, 40, 50, keep=3)
    (tmp_path / "40" / "state.json").write_text("{}")
    saved(tmp_path, 35)
    assert names(tmp_path) == ["30", "35", "50"]


def test_newest_of_nothing(tmp_path: Path):
    assert checkpoint.newest(tmp_path) is None
    assert checkpoint.newest(tmp_path / "absent") is None


def test_newest_falls_back_with_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    saved(tmp_path, 1, 2, 3, keep=3)
    (tmp_path / "3" / "model.safetensors").unlink()
    (tmp_path / "2" / "state.json").write_text("{}")
    with caplog.at_level(logging.WARNING):
        assert checkpoint.newest(tmp_path).step == 1
    (line,) = caplog.messages
    assert all(word in line for word in ("step 1", "3/model.safetensors: missing", "2/state.json: 2 bytes"))
    assert "\n" not in line


def test_newest_does_not_start_over_silently_when_all_are_damaged(tmp_path: Path):
    saved(tmp_path, 1, 2)
    for step in "12":
        (tmp_path / step / "manifest.json").unlink()
    with pytest.raises(ModelError, match=r"(?s)2/manifest\.json: missing.*1/manifest\.json.*Remove"):
        checkpoint.newest(tmp_path)


def test_a_renamed_checkpoint_is_not_taken_for_another_step(tmp_path: Path):
    saved(tmp_path, 1, 2)
    (tmp_path / "2").rename(tmp_path / "9")
    assert checkpoint.newest(tmp_path).step == 1
    assert checkpoint.open(tmp_path / "9").step == 2  # but one may give a copy any name and open it


def test_open_names_what_is_wrong(tmp_path: Path):
    with pytest.raises(ModelError, match="absent: no such"):
        checkpoint.open(tmp_path / "absent")
    saved(tmp_path, 1)
    raw = bytearray((tmp_path / "1" / "optimizer.safetensors").read_bytes())
    raw[-1] ^= 1
    (tmp_path / "1" / "optimizer.safetensors").write_bytes(raw)
    with pytest.raises(ModelError, match=r"1/optimizer\.safetensors: damaged"):
        checkpoint.open(tmp_path / "1")


def test_a_model_that_does_not_fit_is_refused_with_both_values_and_left_alone(tmp_path: Path):
    saved(tmp_path, 1)
    found = checkpoint.newest(tmp_path)
    other = Net(seed=4, layers=3)
    del other.slopes
    other.norm = torch.nn.LayerNorm(5)
    other.layers[0] = other.layers[0].double()
    before = {name: p.clone() for name, p in other.named_parameters()}
    with pytest.raises(ModelError) as caught:
        checkpoint.load_model(found, other)
    message = str(caught.value)
    assert "missing in the checkpoint: layers.2.bias, layers.2.weight" in message
    assert "that the model lacks: slopes" in message
    assert "norm.weight: the checkpoint has shape (16,), the model (5,)" in message
    assert "layers.0.bias: the checkpoint has torch.float32, the model torch.float64" in message
    assert_identical(before, dict(other.named_parameters()))


def test_an_optimizer_that_does_not_fit_is_refused_and_left_alone(tmp_path: Path):
    net, _ = saved(tmp_path, 1)
    found = checkpoint.newest(tmp_path)
    with pytest.raises(ModelError, match="AdamW, this one is MuonAdamW"):
        checkpoint.load_optimizer(found, net, build_optimizer(net, "muon"))
    part = torch.optim.AdamW(net.layers.parameters(), fused=True)
    net.layers[0].weight.grad = torch.ones(16, 16)
    part.step()
    with pytest.raises(ModelError, match=r"that the model lacks: embedding\.weight"):
        checkpoint.load_optimizer(found, net, part)
    assert len(part.state) == 1


def test_require_names_both_values(tmp_path: Path):
    net = Net()
    checkpoint.save(tmp_path, 1, net, build_optimizer(net), {}, facts={"tokenizer": "aa", "data": "bb"})
    found = checkpoint.newest(tmp_path)
    found.require(tokenizer="aa", world_size=1)
    with pytest.raises(ModelError, match="data: the checkpoint has 'bb', this run 'cc'"):
        found.require(tokenizer="aa", data="cc")


def test_what_cannot_be_json_is_refused_before_anything_is_written(tmp_path: Path):
    net = Net()
    with pytest.raises(TypeError):
        checkpoint.save(tmp_path / "new", 1, net, build_optimizer(net), {"bad": {1, 2}})
    assert names(tmp_path) == []


def test_random_numbers_of_an_unknown_rank_are_left_alone(tmp_path: Path):
    saved(tmp_path, 1)
    found = checkpoint.newest(tmp_path)
    state = rng_state()
    expected = draws()
    set_rng_state(state)
    assert not checkpoint.load_rng(found, rank=1)
    assert draws() == expected
    assert checkpoint.load_rng(found, rank=0)


@given(st.integers(0, 2**32 - 1), st.integers(0, 700))
def test_generators_continue_from_any_point(seed: int, drawn: int):
    """Also between the two numbers that a Gaussian generator makes at a time."""
    import random

    import numpy as np

    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    for _ in range(drawn % 5):
        random.gauss(0, 1)
    np.random.randn(drawn)  # noqa: NPY002
    torch.rand(drawn)
    state = rng_state()
    expected = draws()
    set_rng_state(state)
    assert draws() == expected


@pytest.mark.parametrize("name", ["torch", "python", "numpy"])
def test_a_random_state_that_is_none_is_refused(name: str):
    with pytest.raises(ModelError, match="random state"):
        set_rng_state({**rng_state(), name: torch.zeros(3, dtype=torch.int64)})
    rest = {key: value for key, value in rng_state().items() if key != name}
    with pytest.raises(ModelError, match=f"'{name}' is missing"):
        set_rng_state(rest)
