"""Two real processes over gloo, set up by torchrun's environment as on a machine with GPUs."""

import time
from pathlib import Path

import pytest
import torch
from tiny_training import Net, batch, restore, run_ranks, train

from longrun.training.optimizers import OPTIMIZERS, build_optimizer
from longrun.training.parameters import clip_gradients
from model import distributed
from model.checkpoint import files as checkpoint
from model.errors import ModelError

torch.set_num_threads(1)

KINDS = distributed.WRAPPERS


def test_a_single_process_needs_no_group(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RANK", raising=False)
    ranks = distributed.setup("cpu")
    assert ranks == distributed.DistEnv(0, 1, 0, torch.device("cpu"))
    assert ranks.is_main
    assert not torch.distributed.is_initialized()
    net = Net()
    assert distributed.wrap(net, ranks) is distributed.wrap(net, ranks, "fsdp") is net
    assert [distributed.any_rank(flag) for flag in (True, False)] == [True, False]
    assert distributed.sum_scalars([1, 2.5]) == distributed.mean_scalars([1, 2.5]) == [1.0, 2.5]
    assert distributed.broadcast_object({"a": None}) == {"a": None}
    distributed.barrier()
    distributed.require_same("step", 3)
    distributed.teardown()


@pytest.mark.parametrize(("device", "words"), [("tpu", "auto, cpu, cuda, mps"), ("cuda", "device=auto")])
def test_bad_devices_are_refused(device: str, words: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match=words):
        distributed.setup(device)


def test_a_broken_environment_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(ModelError, match="LOCAL_RANK=''"):
        distributed.setup("cpu")


def test_an_unknown_kind_is_refused_also_with_one_process():
    with pytest.raises(ModelError, match="ddp, fsdp"):
        distributed.wrap(Net(), distributed.DistEnv(0, 1, 0, torch.device("cpu")), "zero3")


def messages() -> dict:
    ranks = distributed.setup("cpu", timeout=30)
    answers = {
        "ranks": (ranks.rank, ranks.world, ranks.local_rank, str(ranks.device), ranks.is_main),
        "any": (distributed.any_rank(ranks.rank == 1), distributed.any_rank(False)),
        "sum": distributed.sum_scalars([1.0 + ranks.rank, 0.1]),
        "mean": distributed.mean_scalars([float(ranks.rank)]),
        "object": distributed.broadcast_object({"name": "Größe", "from": ranks.rank}),
        "from one": distributed.broadcast_object([ranks.rank] * 5000, source=1)[-1],
        "none": distributed.broadcast_object(None if ranks.is_main else "lost"),
        "tensors": [t["x"].tolist() for t in distributed.gather_tensors({"x": torch.full((2,), ranks.rank)})],
    }
    distributed.require_same("step", 7)
    try:
        distributed.require_same("step", 7 + ranks.rank)
    except RuntimeError as error:
        answers["disagreement"] = str(error)
    try:
        checkpoint.save(Path("/dev/null/run"), 3, net := Net(), build_optimizer(net), {})
    except OSError as error:
        answers["not saved"] = str(error)
    distributed.barrier()
    distributed.teardown()
    assert not torch.distributed.is_initialized()
    return answers


def test_ranks_agree():
    for rank, answers in enumerate(run_ranks(messages)):
        assert answers["ranks"] == (rank, 2, rank, "cpu", rank == 0)
        assert answers["any"] == (True, False)
        assert answers["sum"] == [3.0, 0.2]
        assert answers["mean"] == [0.5]
        assert answers["object"] == {"name": "Größe", "from": 0}
        assert answers["from one"] == 1
        assert answers["none"] is None
        assert answers["tensors"] == [[0, 0], [1, 1]]
        assert "step: rank 0 has 7" in answers["disagreement"]
        assert "checkpoint of step 3 not saved" in answers["not saved"]  # only rank 0 met the error


def hang() -> float:
    distributed.setup("cpu", timeout=2)
    if distributed.rank() == 1:
        time.sleep(4)
        return 0.0
    started = time.monotonic()
    with pytest.raises(RuntimeError):
        distributed.any_rank(False)
    return time.monotonic() - started


def test_a_rank_that_hangs_is_given_up_after_the_timeout():
    assert 1.5 < run_ranks(hang)[0] < 4


def trained(kind: str, name: str, steps: int, folder: str, save_at: int = 0, dropout: bool = False) -> dict:
    """`steps` steps, resuming if `folder` has a checkpoint; losses averaged over the ranks, and the weights."""
    ranks = distributed.setup("cpu", timeout=30)
    # DDP makes weights equal that differ; FSDP takes each rank's shard as it is.
    net = Net(seed=0 if kind == "fsdp" else ranks.rank).train(dropout)
    torch.manual_seed(ranks.rank)
    model = distributed.wrap(net, ranks, kind)
    optimizer = build_optimizer(net, name, lr=0.01)
    first = 0
    if checkpoint.newest(Path(folder)) is not None:
        first = restore(Path(folder), model, optimizer, ranks.rank).step
    losses = []
    for step in range(first, steps):
        losses += distributed.mean_scalars(train(model, optimizer, range(step, step + 1), ranks.rank, ranks.world))
        if step + 1 == save_at:
            checkpoint.save(Path(folder), save_at, model, optimizer, {"step": save_at})
    weights = {key: distributed.full_tensor(p.detach()).tolist() for key, p in net.named_parameters()}
    draw = torch.rand(()).item()
    distributed.teardown()
    return {"losses": losses, "weights": weights, "first": first, "draw": draw}


def alone(name: str, steps: int) -> list[float]:
    net = Net(seed=0).eval()
    return train(net, build_optimizer(net, name, lr=0.01), range(steps))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_two_ranks_train_as_one(kind: str, name: str, tmp_path: Path):
    results = run_ranks(trained, kind, name, 10, str(tmp_path))
    assert results[0] == {**results[1], "draw": results[0]["draw"]}
    tolerance = 5e-3 if name == "muon" else 1e-5  # Muon computes in bfloat16: rounding shows
    assert results[0]["losses"] == pytest.approx(alone(name, 10), abs=tolerance)


def shard_a_scalar() -> str:
    ranks = distributed.setup("cpu", timeout=30)
    net = Net()
    net.temperature = torch.nn.Parameter(torch.ones(()))
    with pytest.raises(ModelError) as caught:
        distributed.wrap(net, ranks, "fsdp")
    distributed.teardown()
    return str(caught.value)


def test_fsdp_refuses_what_it_cannot_shard_by_name():
    assert "temperature cannot be sharded" in run_ranks(shard_a_scalar)[0]


def gradients(kind: str, limit: float) -> tuple[float, list, list[int]]:
    """Norm, clipped gradients, and whether they were exchanged after each of two micro-batches."""
    ranks = distributed.setup("cpu", timeout=30)
    net = Net().eval()
    model = distributed.wrap(net, ranks, kind)
    exchanged = []
    for micro in range(2):
        with distributed.accumulate(model, last=micro == 1):
            tokens, targets = (t.chunk(2)[micro] for t in batch(0, ranks.rank, ranks.world))
            (model(tokens, targets) / 2).backward()
        sizes = [0.0 if p.grad is None else distributed.full_tensor(p.grad).sum().item() for p in net.parameters()]
        exchanged.append(any(sizes) and distributed.mean_scalars(sizes) == sizes)
    norm = clip_gradients(net, limit)
    result = [distributed.full_tensor(p.grad).tolist() for p in net.parameters()]
    distributed.teardown()
    return norm, result, exchanged


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_two_ranks_and_two_micro_batches_are_those_of_the_whole_batch(kind: str):
    """Adam and Muon do not mind the scale of a gradient, so their training would not show a sum in place of a mean."""
    net = Net().eval()
    net(*batch(0)).backward()
    norm = clip_gradients(net, 0.5)
    for answer, clipped, exchanged in run_ranks(gradients, kind, 0.5):
        assert answer == pytest.approx(norm, rel=1e-5)
        for mine, p in zip(clipped, net.parameters(), strict=True):
            torch.testing.assert_close(torch.tensor(mine), p.grad, rtol=1e-4, atol=1e-7)
        assert exchanged == [False, True]


@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_resume_bit_for_bit_each_with_its_own_dropout(kind: str, tmp_path: Path):
    straight = run_ranks(trained, kind, "adamw", 8, str(tmp_path), 4, True)
    resumed = run_ranks(trained, kind, "adamw", 8, str(tmp_path), 0, True)
    for one, two in zip(straight, resumed, strict=True):
        assert two["first"] == 4
        assert one["losses"][4:] == two["losses"]
        assert one["weights"] == two["weights"]
        assert one["draw"] == two["draw"]
    assert straight[0]["draw"] != straight[1]["draw"]


@pytest.mark.parametrize(
    ("before", "after"), [("ddp", "fsdp"), ("fsdp", "ddp"), ("ddp", 1), ("fsdp", 1), (1, "ddp"), (1, "fsdp")]
)
def test_f13_resuming_with_another_number_of_ranks_or_another_wrapper(before, after, tmp_path: Path):
    def run(kind, steps: int, save_at: int = 0) -> dict:
        world = 1 if kind == 1 else 2
        return run_ranks(trained, "ddp" if kind == 1 else kind, "adamw", steps, str(tmp_path), save_at, world=world)[0]

    first = run(before, 5, save_at=5)
    second = run(after, 15)
    assert second["first"] == 5
    assert first["losses"] + second["losses"] == pytest.approx(alone("adamw", 15), abs=1e-5)
