"""Real faults: kill -9 while saving, damaged files, a full disk.

The quick versions run always, the long ones with `-m stress`.
"""

import contextlib
import ctypes
import errno
import os
import random
import resource
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from tiny_training import Net, processes, restore, train

from longrun.training.optimizers import build_optimizer
from model.checkpoint import atomic_dir
from model.checkpoint import files as checkpoint
from model.errors import ModelError

torch.set_num_threads(1)

FILES = ("model.safetensors", "optimizer.safetensors", "state.json", "manifest.json")


def stamped(step: int, net: Net, optimizer: torch.optim.Optimizer) -> None:
    """Write `step` into every weight and every moment, so that a mixture of two saves would show."""
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(step)
            optimizer.state[p] = {"exp_avg": torch.full_like(p, step), "step": torch.tensor(float(step))}


def assert_stamped(folder: Path, layers: int = 2) -> int:
    """Load the newest checkpoint; all of it must be of one step, which is returned. 0 if there is none."""
    if checkpoint.newest(folder) is None:
        return 0
    net = Net(layers=layers)
    optimizer = build_optimizer(net)
    found = restore(folder, net, optimizer)
    values = [tensor.unique() for tensor in net.parameters()]
    values += [tensor.unique() for state in optimizer.state.values() for tensor in state.values()]
    assert {v.item() for value in values for v in value} == {found.step}
    assert found.state == {"step": found.step}
    return found.step


def save_forever(folder: Path, first: int, stride: int, report) -> None:
    torch.set_num_threads(1)
    net = Net()
    optimizer = build_optimizer(net)
    step = first
    while True:
        stamped(step, net, optimizer)
        checkpoint.save(folder, step, net, optimizer, {"step": step})
        report.send(step)
        step += stride


def last_report(report) -> int:
    step = 0
    while report.poll():
        try:
            step = report.recv()
        except EOFError:
            break
    return step


def kill_savers(folder: Path, times: int, stride: int) -> None:
    """Start, kill at a random moment, look, start again from there, as a requeued job does."""
    dice, step = random.Random(0), 0
    for _ in range(times):
        ours, theirs = processes.Pipe(duplex=False)
        child = processes.Process(target=save_forever, args=(folder, step + 1, stride, theirs), daemon=True)
        child.start()
        theirs.close()
        assert ours.poll(20)
        time.sleep(dice.uniform(0, 0.05))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert child.exitcode == -signal.SIGKILL  # it was alive until then: no save failed
        promised = last_report(ours)
        step = assert_stamped(folder)
        # What save() returned for is there; at most the save that was under way had got further.
        assert promised <= step <= promised + stride
    assert step >= times * stride


def test_f1_kill_while_saving(tmp_path: Path):
    kill_savers(tmp_path, times=8, stride=1)


@pytest.mark.stress
def test_f1_kill_while_saving_100_times(tmp_path: Path):
    kill_savers(tmp_path, times=100, stride=1)


def kill_before_every_file_operation(folder: Path, saves: list[int], keep: int, report) -> None:
    """Fork, let the child save until its n-th file operation, kill it there, look; for every n."""
    torch.set_num_threads(1)
    net = Net()
    optimizer = build_optimizer(net)
    stamped(saves[0], net, optimizer)
    checkpoint.save(folder, saves[0], net, optimizer, {"step": saves[0]}, keep)
    operations, ended = 0, False
    while not ended:
        operations += 1
        child = os.fork()
        if child == 0:
            kill_me_before(operations)
            for step in saves[1:]:
                stamped(step, net, optimizer)
                checkpoint.save(folder, step, net, optimizer, {"step": step}, keep)
            os._exit(0)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        for path in atomic_dir.list_checkpoints(folder).values():
            atomic_dir.verify(path)
        report.send((operations, assert_stamped(folder)))
    report.send(sorted(path.name for path in folder.iterdir()))


def kill_me_before(operation: int) -> None:
    """kill -9 this process when Python is about to open, rename or remove a file for the given time."""
    count = 0

    def hook(event: str, arguments: tuple) -> None:
        nonlocal count
        if event in ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod"):
            count += 1
        if count == operation:
            count += 1  # os.kill is an event, too
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


@pytest.mark.parametrize(("saves", "keep"), [([7, 7], 1), ([1, 2], 1)])
def test_f1_kill_before_every_file_operation(tmp_path: Path, saves: list[int], keep: int):
    """Random moments seldom hit the instant between two renames; this visits each of them."""
    ours, theirs = processes.Pipe(duplex=False)
    arguments = (tmp_path, saves, keep, theirs)
    child = processes.Process(target=kill_before_every_file_operation, args=arguments, daemon=True)
    child.start()
    theirs.close()
    answers = []
    with contextlib.suppress(EOFError):
        while True:
            answers.append(ours.recv())
    child.join()
    assert child.exitcode == 0, answers[-1:]
    *steps, left = answers
    assert len(steps) > 20
    assert {step for _, step in steps} <= set(saves)  # never 0: something loadable was there all the time
    assert steps[-1][1] == saves[-1]
    assert left == sorted({str(step) for step in saves[-keep:]})


def save_one_step_forever(folder: Path, report) -> None:
    torch.set_num_threads(1)
    net = Net()
    optimizer = build_optimizer(net)
    stamped(7, net, optimizer)
    while True:
        checkpoint.save(folder, 7, net, optimizer, {"step": 7}, keep=1)
        report.send(7)


@pytest.mark.parametrize("times", [4, pytest.param(50, marks=pytest.mark.stress)])
def test_f1_kill_while_replacing_the_only_checkpoint(tmp_path: Path, times: int):
    dice = random.Random(1)
    for _ in range(times):
        ours, theirs = processes.Pipe(duplex=False)
        child = processes.Process(target=save_one_step_forever, args=(tmp_path, theirs), daemon=True)
        child.start()
        theirs.close()
        assert ours.poll(20)
        time.sleep(dice.uniform(0, 0.05))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert assert_stamped(tmp_path) == 7


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Checkpoints 1 and 2 of a short training."""
    net = Net()
    optimizer = build_optimizer(net)
    for step in (1, 2):
        train(net, optimizer, range(step, step + 1))
        checkpoint.save(tmp_path / "checkpoints", step, net, optimizer, {"step": step})
    return tmp_path / "checkpoints"


def assert_rejected(two: Path, file: str, damaged: bytes) -> None:
    """Put `damaged` into one file of checkpoint 2: nothing of it may be used, checkpoint 1 takes over."""
    path = two / "2" / file
    whole = path.read_bytes()
    path.write_bytes(damaged)
    with pytest.raises(ModelError, match=file):
        checkpoint.open(two / "2")
    net = Net(seed=11)
    started = time.perf_counter()
    assert restore(two, net, build_optimizer(net)).step == 1
    assert time.perf_counter() - started < 2
    shutil.move(two / "1", two.parent / "1")
    untouched = {name: p.clone() for name, p in net.named_parameters()}
    with pytest.raises(ModelError, match=file):
        restore(two, net)
    assert all(torch.equal(p, untouched[name]) for name, p in net.named_parameters())
    shutil.move(two.parent / "1", two / "1")
    path.write_bytes(whole)


def truncate_everywhere(two: Path, lengths: int) -> None:
    dice = random.Random(2)
    for file in FILES:
        whole = (two / "2" / file).read_bytes()
        inside = [dice.randrange(len(whole)) for _ in range(lengths - 3)]
        for length in (0, 8, len(whole) - 1, *inside):
            assert_rejected(two, file, whole[:length])
    assert checkpoint.newest(two).step == 2  # the fixture itself is whole


def flip_bits(two: Path, times: int) -> None:
    dice = random.Random(3)
    for number in range(times):
        file = FILES[number % len(FILES)]
        damaged = bytearray((two / "2" / file).read_bytes())
        damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
        assert_rejected(two, file, bytes(damaged))
    assert checkpoint.newest(two).step == 2


def test_f3_truncated_files_are_rejected(two: Path):
    truncate_everywhere(two, lengths=5)


def test_f4_flipped_bits_are_rejected(two: Path):
    flip_bits(two, times=20)


@pytest.mark.stress
def test_f3_truncated_at_200_lengths(two: Path):
    truncate_everywhere(two, lengths=200)


@pytest.mark.stress
def test_f4_200_flipped_bits(two: Path):
    flip_bits(two, times=200)


def test_bytes_appended_or_files_exchanged_are_rejected(two: Path):
    for file in FILES:
        assert_rejected(two, file, (two / "2" / file).read_bytes() + b"\n")
    for file in FILES[:3]:
        assert_rejected(two, file, (two / "1" / file).read_bytes())
    shutil.copy(two / "1" / "manifest.json", two / "2")
    with pytest.raises(ModelError, match="damaged"):
        checkpoint.open(two / "2")


def mount_a_disk(folder: Path, size: str) -> bool:
    """Give this process, and nobody else, a file system of its own at `folder`. False where that is not permitted."""
    libc = ctypes.CDLL(None, use_errno=True)
    new_mounts, new_user, recursive_private = 0x20000, 0x10000000, 0x4000 | 0x40000
    user = os.getuid()
    if libc.unshare(new_mounts):
        if libc.unshare(new_mounts | new_user):
            return False
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    libc.mount(None, b"/", None, recursive_private, None)
    return not libc.mount(b"longrun", bytes(folder), b"tmpfs", 0, f"size={size}".encode())


def fill_a_disk(disk: Path, report) -> None:
    torch.set_num_threads(1)
    if not mount_a_disk(disk, "4m"):
        report.send("not permitted")
        return
    folder, net = disk / "run" / "checkpoints", Net(layers=120)
    optimizer = build_optimizer(net)
    stamped(1, net, optimizer)
    checkpoint.save(folder, 1, net, optimizer, {"step": 1})
    model, moments = (-(-(folder / "1" / file).stat().st_size // 4096) * 4096 for file in FILES[:2])
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    stamped(2, net, optimizer)
    ballast = disk / "ballast"
    # room for nothing; for a part of the model; for a part of the optimizer; for all but the manifest
    for room in (0, 8192, model + 16384, model + moments + 4096):
        ballast.write_bytes(bytes(free - room))
        try:
            checkpoint.save(folder, 2, net, optimizer, {"step": 2})
            report.send(f"saved into {room} bytes")
        except OSError as error:
            left = [path.name for path in folder.iterdir()]
            report.send((error.errno, str(error), left, assert_stamped(folder, layers=120)))
        ballast.unlink()
    checkpoint.save(folder, 2, net, optimizer, {"step": 2})
    report.send(("space again", assert_stamped(folder, layers=120)))


def test_f5_disk_full(tmp_path: Path):
    """A real file system of 4 MiB, filled so that saving fails at four different places."""
    ours, theirs = processes.Pipe(duplex=False)
    child = processes.Process(target=fill_a_disk, args=(tmp_path, theirs), daemon=True)
    child.start()
    theirs.close()
    first = ours.recv()
    if first == "not permitted":
        pytest.skip("this machine lets nobody mount; test_f5_file_too_large covers the handling")
    for answer in [first, ours.recv(), ours.recv(), ours.recv()]:
        assert isinstance(answer, tuple), answer
        number, message, left, step = answer
        assert number == errno.ENOSPC
        assert "No space left on device: checkpoint of step 2 not saved; the earlier ones in" in message
        assert left == ["1"]
        assert step == 1
    assert ours.recv() == ("space again", 2)


def save_under_a_limit(folder: Path, limit: int, report) -> None:
    """The kernel refuses to let any file grow beyond `limit` bytes."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    net = Net()
    optimizer = build_optimizer(net)
    stamped(1, net, optimizer)
    checkpoint.save(folder, 1, net, optimizer, {"step": 1})
    stamped(2, net, optimizer)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        checkpoint.save(folder, 2, net, optimizer, {"step": 2})
    except OSError as error:
        report.send((error.errno, str(error)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    report.send(sorted(path.name for path in folder.iterdir()))
    checkpoint.save(folder, 2, net, optimizer, {"step": 2})


@pytest.mark.parametrize("limit", [1000, 9000])  # in the model's file, in the optimizer's
def test_f5_file_too_large(tmp_path: Path, limit: int):
    ours, theirs = processes.Pipe(duplex=False)
    child = processes.Process(target=save_under_a_limit, args=(tmp_path, limit, theirs), daemon=True)
    child.start()
    assert ours.poll(20)
    number, message = ours.recv()
    assert number == errno.EFBIG
    assert "step 2 not saved" in message
    assert ours.recv() == ["1"]
    child.join(20)
    assert child.exitcode == 0
    assert assert_stamped(tmp_path) == 2
