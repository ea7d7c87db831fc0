"""Devices that this machine may not have: what is asked of them, and what is said without them."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model.distributed import setup
from model.errors import ModelError
from model.pe.common.rotation import angles
from model.precision import exact_device


def test_float64_is_not_asked_of_a_device_without_it():
    assert exact_device(torch.device("mps")) == torch.device("cpu")
    assert exact_device(torch.device("cuda", 1)) == torch.device("cuda", 1)
    assert exact_device(None) is None


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_explained(device: str):
    if getattr(torch, "cuda" if device == "cuda" else "mps").is_available():
        pytest.skip(f"this machine has {device}")
    with pytest.raises(ModelError, match=rf"(?s)device={device}: .*(CUDA|GPU).*device=auto") as raised:
        setup(device)
    assert len(str(raised.value).splitlines()) == 2


@pytest.mark.skipif(not torch.backends.mps.is_available(), reason="needs an Apple GPU")
def test_angles_on_an_apple_gpu_are_those_of_the_cpu():
    positions, frequencies = torch.tensor([[0, 1, 100_003]]), torch.tensor([1.0, 0.1], dtype=torch.float64)
    there, here = angles(positions.to("mps"), frequencies), angles(positions, frequencies)
    assert there.cos.device.type == "mps"
    assert torch.equal(there.cos.cpu(), here.cos)


@pytest.mark.slow
def test_nothing_makes_float64_on_a_device_without_it():
    """See `without_float64.py`: every encoding, plan and extension, on a device that torch only pretends to have."""
    script = Path(__file__).resolve().parents[1] / "helpers" / "without_float64.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=280)
    lines = [line.split(" ", 1) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert len(lines) > 100
    assert sum(said == "ok" for _, said in lines) > 90
    assert not [line for line in lines if not line[1].startswith("ok")]
