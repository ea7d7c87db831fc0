"""docs/conformance.md has a row for every comparison with other people's code, and they are within their limits."""

import re
from pathlib import Path

import pytest

from scripts.dev import conformance
from scripts.dev.conformance import Row

PAGE = Path(__file__).resolve().parents[2] / "docs" / "conformance.md"
ROW = re.compile(r"\| (.+) \| (.+) \| (.+) \| (\d+) \| (.+) \| (.+) \|")


def test_every_comparison_has_a_row_within_its_limit() -> None:
    found = {
        match.groups()[:3]: match.groups()[3:] for match in map(ROW.fullmatch, PAGE.read_text().splitlines()) if match
    }
    targets = conformance.targets()
    assert len(set(targets)) == len(targets) >= 40
    assert set(found) >= set(targets), "run python -m scripts.dev.conformance --write docs/conformance.md"
    for what in targets:
        cases, largest, limit = found[what]
        assert int(cases) >= 1, what
        assert float(largest) <= (0 if limit == "exact" else float(limit)), what


def test_a_row_says_the_worst_of_its_cases() -> None:
    row = Row("`a`", "theirs", "bias", 1e-5, "Group", cases=2, differences=[1e-7, 3.21e-6])
    assert row.markdown() == "| `a` | theirs | bias | 2 | 3.2e-06 | 1e-05 |"
    assert Row("`a`", "theirs", "bias", 0, "Group", cases=1).largest == "not run"
    assert Row("`a`", "theirs", "bias", 0, "Group", 1, [0.0], failed=True).largest == "FAILED"


def test_the_command_measures_what_tests_measure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> None:
    test = tmp_path / "test_of_two.py"
    test.write_text(
        '"""Numbers of a test."""\nimport pytest, torch\n\n'
        '@pytest.mark.target("ours", "theirs", "numbers", limit=0.5)\n'
        '@pytest.mark.parametrize("x", [1.0, 1.25, 3.0])\n'
        "def test_numbers(x, agree):\n    agree(torch.tensor(x), torch.tensor(1.0))\n"
    )
    (tmp_path / "conftest.py").write_text((PAGE.parent.parent / "tests" / "conftest.py").read_text())
    (tmp_path / "page.md").write_text("<!-- conformance: start -->\n<!-- conformance: end -->\n")
    monkeypatch.setattr(conformance, "TESTS", tmp_path)
    monkeypatch.setattr(conformance, "LIBRARIES", ("torch",))
    assert conformance.main(["--write", str(tmp_path / "page.md")]) == 1
    assert "| ours | theirs | numbers | 3 | FAILED | 5e-01 |" in (tmp_path / "page.md").read_text()
    assert "### Numbers of a test" in capsys.readouterr().out
