"""Freed memory stays with the process: the second of two equal steps has no pages handed out."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STEP_PAGES = 190 * 2**20 // resource.getpagesize()
STEP = """
import resource, sys, torch
from longrun.training.malloc import keep_freed_memory
kept = sys.argv[1] == "keep" and keep_freed_memory()
faults = []
for _ in range(8):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.ones(size * 2**18) for size in range(1, 20)]  # 190 MiB, as activations of several sizes
    while tensors:
        tensors.pop()  # the last first, as in a backward pass
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(int(kept), faults[-1])
"""


def faults(how: str, **environment: str) -> tuple[int, int]:
    """Whether it was arranged, and how many pages of 4 KiB a step was handed in the end."""
    words = [sys.executable, "-c", STEP, how]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    kept, pages = map(int, done.stdout.split())
    return kept, pages


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="about glibc")
def test_a_step_finds_the_memory_of_the_one_before():
    kept, pages = faults("keep")
    if not kept:
        pytest.skip("not glibc")
    assert pages < STEP_PAGES // 20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="about glibc")
def test_what_the_environment_says_goes_first():
    """Here that every tensor is mapped by itself, and so is new to the process each time."""
    kept, pages = faults("keep", MALLOC_MMAP_THRESHOLD_="131072")
    assert not kept
    assert pages > STEP_PAGES // 2
