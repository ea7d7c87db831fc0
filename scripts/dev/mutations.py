"""python -m scripts.dev.mutations [WORD ...] [--write PAGE]: mutation tests.

Each mistake of tests/mutants.yaml is applied to a copy of the source, and the tests of that part run there. Golden
numbers are left out, because they fail for every change, right or wrong. WORD: only mistakes whose name contains it.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from longrun.base.errors import ConfigError
from longrun.base.paths import ROOT
from longrun.config.cli import guarded
from longrun.doc_blocks import update_blocks

COPIED = ("configs", "data", "longrun", "model", "scripts", "tests", "train.py", "eval.py", "pyproject.toml")


@dataclass(frozen=True)
class Mutant:
    """change: text that occurs exactly once in the file -> its replacement.  select: pytest -k."""

    mistake: str
    file: str
    change: dict[str, str]
    tests: list[str]
    select: str

    def applied(self, source: str) -> str:
        for before, after in self.change.items():
            assert source.count(before) == 1, f"{self.file} contains {before!r} {source.count(before)} times"
            source = source.replace(before, after)
        return source


@dataclass(frozen=True)
class Outcome:
    mutant: Mutant
    failed: list[str]  # names of failed test functions
    count: int  # failed tests, counting every case
    seconds: float

    def markdown(self) -> str:
        caught = ", ".join(f"`{name}`" for name in self.failed[:3]) or "**not noticed**"
        return f"| {self.mutant.mistake} | {self.count} | {caught} |"


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    selected = [m for m in mutants() if all(word.lower() in m.mistake.lower() for word in options.words)]
    if not selected:
        raise ConfigError(f"{' '.join(options.words)}: no such mistake.\nThey are listed in tests/mutants.yaml")
    outcomes = []
    with copy() as run:
        for mutant in selected:
            outcomes.append(run(mutant))
            noticed = f"{outcomes[-1].count:4} tests" if outcomes[-1].count else "NOT NOTICED"
            print(
                f"{noticed}  {outcomes[-1].seconds:5.1f} s  {mutant.mistake}: {', '.join(outcomes[-1].failed[:3])}",
                flush=True,
            )
    if options.write:
        update_blocks(options.write, {"mutations": lambda: table(outcomes)})
    return 1 if any(not outcome.count for outcome in outcomes) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.dev.mutations", description="Mutation tests.")
    parser.add_argument("words", nargs="*", metavar="WORD", help="only mistakes with these words in their name")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between the markers in this page")
    return parser


def mutants() -> list[Mutant]:
    content = yaml.safe_load((ROOT / "tests" / "mutants.yaml").read_text(encoding="utf-8"))
    return [Mutant(**{**entry, "tests": content["tests"][entry["tests"]]}) for entry in content["mutants"]]


@contextmanager
def copy() -> Iterator[Callable[[Mutant], Outcome]]:
    """A function that runs a mutant in a copy of the source and restores the copy."""
    with tempfile.TemporaryDirectory() as folder:
        for name in COPIED:
            source, target = ROOT / name, Path(folder) / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        yield lambda mutant: _run(mutant, Path(folder))


def _run(mutant: Mutant, folder: Path) -> Outcome:
    path, start = folder / mutant.file, time.monotonic()
    source = path.read_text(encoding="utf-8")
    path.write_text(mutant.applied(source), encoding="utf-8")
    # -B: cached bytecode hides a change within one second that keeps the size.
    command = [sys.executable, "-B", "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider", "-k", mutant.select]
    try:
        done = subprocess.run(
            command + [f"tests/{name}" for name in mutant.tests],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
        )
    finally:
        path.write_text(source, encoding="utf-8")
    assert done.returncode in (0, 1), f"{mutant.mistake}: no test ran.\n{done.stdout}{done.stderr}"
    nodes = re.findall(r"^FAILED tests/(\S+)", done.stdout, re.MULTILINE)
    names = dict.fromkeys(node.partition("::")[2].partition("[")[0] for node in nodes)
    return Outcome(mutant, list(names), len(nodes), time.monotonic() - start)


def table(outcomes: list[Outcome]) -> str:
    head = ["| mistake | tests that fail | among them |", "|---|--:|---|"]
    return "\n".join(head + [outcome.markdown() for outcome in outcomes])


if __name__ == "__main__":
    sys.exit(guarded(main))
