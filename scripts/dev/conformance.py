"""python -m scripts.dev.conformance [--write PAGE] [--released FOLDER]: differences from other implementations.

A row is a test with the mark `target(ours, theirs, what, limit)`; its number is the largest difference over the cases
of the test, measured while this command runs the tests. The page therefore compares exactly what the test suite
compares. --released: clones of papers' code, for tests/conformance/test_conformance_released.py.
"""

import argparse
import ast
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from longrun.base.errors import ConfigError
from longrun.base.paths import ROOT
from longrun.config.cli import guarded
from longrun.doc_blocks import update_blocks

TESTS = ROOT / "tests"
MARK = "@pytest.mark.target("
LIBRARIES = ("torch", "transformers", "x-transformers", "rotary-embedding-torch")


@dataclass
class Row:
    ours: str
    theirs: str
    what: str
    limit: float
    group: str  # first line of the test file's docstring
    cases: int = 0
    differences: list[float] = field(default_factory=list)
    failed: bool = False

    @property
    def largest(self) -> str:
        if self.failed:
            return "FAILED"
        if not self.differences:
            return "not run"
        largest = max(self.differences)
        return "0" if largest == 0 else f"{largest:.1e}"

    def markdown(self) -> str:
        limit = "exact" if self.limit == 0 else f"{self.limit:.0e}"
        return f"| {self.ours} | {self.theirs} | {self.what} | {self.cases} | {self.largest} | {limit} |"


class Recorder:
    """A pytest plugin that collects the rows of the tests that run."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}  # by the test function's node id

    def pytest_collection_modifyitems(self, items: list) -> None:
        for item in items:
            mark = item.get_closest_marker("target")
            if mark is not None:
                group = (item.module.__doc__ or "").split("\n")[0].rstrip(".")
                ours, theirs, what = mark.args
                new = Row(ours, theirs, what, mark.kwargs.get("limit", 1e-5), group)
                self.rows.setdefault(_function(item.nodeid), new).cases += 1

    def pytest_runtest_logreport(self, report) -> None:
        row = self.rows.get(_function(report.nodeid))
        if row is not None:
            row.failed |= report.failed
            if report.when == "call":
                row.differences += [value for name, value in report.user_properties if name == "difference"]


def _function(node: str) -> str:
    return node.partition("[")[0]


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    rows = measured(options.released)
    if options.write:
        update_blocks(options.write, {"conformance": lambda: page(rows)})
    print(page(rows))
    return 1 if any(row.failed for row in rows) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.dev.conformance", description="Differences from other implementations."
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between the markers in this page")
    parser.add_argument("--released", type=Path, metavar="FOLDER", help="clones of the code of papers")
    return parser


def files() -> list[Path]:
    """The test files with rows."""
    return [path for path in sorted(TESTS.rglob("test_*.py")) if MARK in path.read_text(encoding="utf-8")]


def targets() -> list[tuple[str, str, str]]:
    """(ours, theirs, what) of every row, parsed from the source of the tests."""
    calls = [node for path in files() for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    marks = [node for node in calls if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.target"]
    return [tuple(ast.literal_eval(argument) for argument in call.args) for call in marks]


def measured(released: Path | None = None) -> list[Row]:
    """Run the tests that have rows. Raises ConfigError if a library that they compare with is not installed."""
    try:
        import pytest

        for name in LIBRARIES:
            version(name)
    except (ImportError, PackageNotFoundError) as error:
        raise ConfigError(f"{error}\nTry pip install -e '.[dev,conformance]'") from None
    recorder, arguments = Recorder(), ["-q", "--no-header", "-p", "no:cacheprovider", "-m", "target"]
    if released is not None:
        arguments += ["--released", str(released)]
    pytest.main([*arguments, *map(str, files())], plugins=[recorder])
    return list(recorder.rows.values())


def page(rows: Iterable[Row]) -> str:
    """Markdown: one table per test file."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    libraries = ", ".join(f"{name} {version(name).partition('+')[0]}" for name in LIBRARIES)
    lines = [f"Measured with {libraries}, in float32 on a CPU."]
    for group, members in groups.items():
        lines += ["", f"### {group}", "", "| ours | compared with | what | cases | largest difference | limit |"]
        lines += ["|---|---|---|--:|--:|--:|", *(row.markdown() for row in members)]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(guarded(main))
