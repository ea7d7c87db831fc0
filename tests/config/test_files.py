"""Atomic files and suggestions."""

from pathlib import Path

import pytest

from longrun.base.files import atomic_file, atomic_write
from longrun.base.suggest import suggest


def test_a_file_is_replaced_as_a_whole(tmp_path: Path):
    path = atomic_write(tmp_path / "a.json", "old")
    assert atomic_write(path, "é\n").read_bytes() == "é\n".encode()
    assert atomic_write(path, b"\x00").read_bytes() == b"\x00"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def fail(path: Path) -> None:
    path.write_text("half")
    raise OSError("disk full")


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    path = atomic_write(tmp_path / "a", "old")
    with pytest.raises(OSError, match="full"), atomic_file(path) as temporary:
        fail(temporary)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_suggestions_ignore_case_and_match_the_last_part():
    assert suggest("RoPE", ["alibi", "rope"]) == ["rope"]
    assert suggest("lr", ["seed", "optim.lr"]) == ["optim.lr"]
    assert suggest("nothing", ["rope", "alibi"]) == []
