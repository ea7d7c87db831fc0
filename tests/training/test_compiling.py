"""train.compile: the rule behind `auto`, and real compiled runs."""

import shutil

import pytest
import torch
from safetensors import safe_open
from tiny_configs import config
from training_runs import command, only_run, rows, run, weights, write_corpus

from longrun.training import compile_policy
from longrun.training.compile_policy import CPU, CUDA, should_compile
from model.errors import ModelError

HERE, THERE = torch.device("cpu"), torch.device("cuda")
SMALL = {"tokens": 4096, "parameters": 1_000_000, "layers": 4}


@pytest.fixture(autouse=True)
def one_thread_and_a_compiler(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(compile_policy.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(compile_policy, "compiles", lambda device: True)


def test_auto_compiles_where_the_saved_time_is_more_than_compiling_takes():
    step = 6 * SMALL["parameters"] * SMALL["tokens"] / CPU.flops
    enough = CPU.seconds / CPU.gain / step
    assert not should_compile("auto", HERE, int(0.99 * enough), **SMALL)
    assert should_compile("auto", HERE, int(1.01 * enough), **SMALL)


def test_auto_counts_the_cores(monkeypatch: pytest.MonkeyPatch):
    steps = int(1.5 * CPU.seconds / CPU.gain / (6 * SMALL["parameters"] * SMALL["tokens"] / CPU.flops))
    assert should_compile("auto", HERE, steps, **SMALL)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)  # twice as fast: half as much to save
    assert not should_compile("auto", HERE, steps, **SMALL)


def test_auto_never_compiles_for_an_unknown_device():
    assert not should_compile("auto", torch.device("mps"), 10**9, **SMALL)


def test_auto_on_cuda_asks_for_a_run_of_minutes():
    """A small model is bound by launches, a large one by its products: both need so many seconds of training."""
    seconds = CUDA.seconds / CUDA.gain
    launches = CUDA.launch_overhead * SMALL["layers"]
    assert not should_compile("auto", THERE, int(0.99 * seconds / launches), **SMALL)
    assert should_compile("auto", THERE, int(1.01 * seconds / launches), **SMALL)
    large = {"tokens": 500_000, "parameters": 124_000_000, "layers": 12}
    assert should_compile("auto", THERE, 1000, **large)
    assert not should_compile("auto", THERE, 100, **large)


def test_without_a_compiler_auto_is_no_and_true_is_explained(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compile_policy.shutil, "which", lambda name: None)
    assert not should_compile("auto", HERE, 10**9, **SMALL)
    assert not should_compile(False, HERE, 10**9, **SMALL)
    with pytest.raises(ModelError, match=r"(?s)train\.compile=true.*compiler.*train\.compile=auto"):
        should_compile(True, HERE, 1, **SMALL)


def test_auto_goes_without_where_the_compiler_fails(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()  # the real `compiles`

    def broken(function):
        raise RuntimeError("Python.h: no such file\nand much more")

    monkeypatch.setattr(torch, "compile", broken)
    compile_policy.compiles.cache_clear()
    try:
        with pytest.warns(UserWarning, match="does not compile on cpu: Python.h: no such file$"):
            assert not should_compile("auto", HERE, 10**9, **SMALL)
        assert should_compile(True, HERE, 1, **SMALL)  # who asks for it hears of it when it fails
    finally:
        compile_policy.compiles.cache_clear()


def test_the_wish_is_obeyed():
    assert should_compile(True, HERE, 1, **SMALL)
    assert not should_compile(False, HERE, 10**9, **SMALL)


@pytest.mark.parametrize(("word", "expected"), [("auto", "auto"), ("true", True), ("false", False)])
def test_all_three_can_be_written(word: str, expected: bool | str):
    assert config(f"train.compile={word}").train.compile == expected
    assert config("").train.compile == "auto"


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, compile_policy.COMPILERS)), reason="needs a C++ compiler")
@pytest.mark.parametrize("pe", ["rope", "t5", "fire", "fox"])
def test_a_compiled_run_is_the_eager_one(pe: str, tmp_path):
    """The same losses within rounding, also where it is cut off and goes on; and checkpoints that anybody can read."""
    words = [*write_corpus(tmp_path / "corpus"), f"pe={pe}", "train.steps=12", "checkpoint.every=4"]
    words += ["eval_at_end=false"]
    for name, more in (("eager", "false"), ("compiled", "true")):
        run(command(*words, f"train.compile={more}", f"root={tmp_path / name}"))
    eager, compiled = only_run(tmp_path / "eager"), only_run(tmp_path / "compiled")
    assert eager.name == compiled.name  # how it is computed is no part of what it is
    for one, two in zip(rows(eager), rows(compiled), strict=True):
        assert two == pytest.approx(one, abs=2e-4)

    cut = [*words, "train.compile=true", f"root={tmp_path / 'cut'}"]
    run(command(*cut, fault=True), expect=-9, fault="kill:0:6")
    assert "continuing" in run(command(*cut))[0]
    for one, two in zip(rows(compiled), rows(only_run(tmp_path / "cut")), strict=True):
        assert two == pytest.approx(one, abs=1e-6)

    assert weights(compiled).keys() == weights(eager).keys()
    (newest,) = (compiled / "checkpoints").glob("12/model.safetensors")
    with safe_open(newest, "pt") as file:
        assert not any("_orig_mod" in name for name in file.keys())  # noqa: SIM118
