"""Checkpoints made by an enemy, who can seal his files as well as we: refused, and nothing of them is executed."""

import io
import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_training import Net, restore, train

from longrun.training.optimizers import build_optimizer
from model.checkpoint import atomic_dir
from model.checkpoint import files as checkpoint
from model.errors import ModelError

torch.set_num_threads(1)


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Checkpoints 1 and 2 of a short training."""
    net = Net()
    optimizer = build_optimizer(net)
    for step in (1, 2):
        train(net, optimizer, range(step, step + 1))
        checkpoint.save(tmp_path / "checkpoints", step, net, optimizer, {"step": step})
    return tmp_path / "checkpoints"


class Payload:
    """Unpickled, it writes a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return (Path.write_text, (self.marker, "executed"))


def seal(folder: Path) -> None:
    """What an enemy can do as well as we: a manifest that agrees with his files."""
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").unlink()
    for key in ("files", "format", "checksum"):
        manifest.pop(key)
    atomic_dir._write_manifest(folder, manifest)


def as_pickle(marker: Path) -> bytes:
    return pickle.dumps(Payload(marker))


def as_torch_file(marker: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save({"embedding.weight": Payload(marker)}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors"])
@pytest.mark.parametrize("make", [as_pickle, as_torch_file])
def test_f15_a_pickle_called_safetensors(two: Path, tmp_path: Path, file: str, make):
    marker = tmp_path / "marker"
    pickle.loads(as_pickle(marker))  # the payload works
    marker.unlink()
    (two / "2" / file).write_bytes(make(marker))
    seal(two / "2")
    net = Net()
    with pytest.raises(ModelError, match=f"{file}: not a safetensors file"):
        restore(two, net, build_optimizer(net))
    assert not marker.exists()


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "..", "", "a/../../secret", "nul\0", "manifest.json"])
def test_f15_a_manifest_cannot_name_files_elsewhere(two: Path, name: str):
    (two / "secret").write_text("secret")
    manifest = json.loads((two / "2" / "manifest.json").read_text())
    manifest.pop("checksum")
    manifest["files"][name] = {"bytes": 6, "sha256": atomic_dir.checksum(two / "secret")}
    (two / "2" / "manifest.json").write_bytes(atomic_dir._with_checksum(manifest))
    with pytest.raises(ModelError):
        checkpoint.open(two / "2")


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"7",
        b"[" * 100_000,
        b'{"files": 3}',
        b"\xff\xfe",
        b"1" * 5000,
        *(
            atomic_dir._with_checksum(stated)
            for stated in (
                {"format": 2, "files": {}},
                {"format": 1, "files": {}},
                {"format": 1, "files": ["model.safetensors"]},
                {"format": 1, "files": {"state.json": 3}},
            )
        ),
    ],
)
def test_f15_a_malformed_manifest(two: Path, body: bytes):
    (two / "2" / "manifest.json").write_bytes(body)
    with pytest.raises(ModelError, match=r"2/manifest\.json"):
        checkpoint.open(two / "2")


def test_f15_an_endless_file(two: Path):
    (two / "2" / "model.safetensors").unlink()
    (two / "2" / "model.safetensors").symlink_to("/dev/zero")
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        checkpoint.open(two / "2")


def test_f15_a_target_in_the_state_is_only_a_word(two: Path, tmp_path: Path):
    marker = tmp_path / "marker"
    state = {"_target_": "pathlib.Path.write_text", "_args_": [str(marker), "executed"], "_partial_": False}
    (two / "2" / "state.json").write_text(json.dumps(state))
    seal(two / "2")
    net = Net()
    assert restore(two, net, build_optimizer(net)).state == state
    assert not marker.exists()


@pytest.mark.parametrize("state", [b"[1]", b"nothing", b"[" * 100_000])
def test_f15_a_state_that_is_no_mapping(two: Path, state: bytes):
    (two / "2" / "state.json").write_bytes(state)
    seal(two / "2")
    with pytest.raises(ModelError, match=r"state\.json"):
        checkpoint.open(two / "2")


@pytest.mark.parametrize(
    "about",
    [
        None,
        "[]",
        "{",
        '{"class": "AdamW"}',
        '{"class": "AdamW", "groups": [], "scalars": {}}',
        '{"class": "AdamW", "groups": [{"options": {}, "parameters": ["__class__"]}], "scalars": {}}',
    ],
)
def test_f15_an_optimizer_file_of_another_make(two: Path, about: str | None):
    file = two / "2" / "optimizer.safetensors"
    save_file({"optimizer/__class__/x": torch.zeros(2)}, file, None if about is None else {"optimizer": about})
    seal(two / "2")
    net = Net()
    with pytest.raises(ModelError, match=r"optimizer\.safetensors"):
        checkpoint.load_optimizer(checkpoint.newest(two), net, build_optimizer(net))


def test_the_code_cannot_unpickle():
    """No name of pickle or of torch.load in the files that read checkpoints; no exception for weights_only needed."""
    folder = Path(checkpoint.__file__).parent
    for name in ("files", "atomic_dir", "state_dict", "rng", "../distributed"):
        source = (folder / f"{name}.py").read_text()
        assert not any(word in source for word in ("import pickle", "torch.load", "_object_list", "eval("))
