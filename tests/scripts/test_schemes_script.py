"""The list of schemes: complete, true, and current in the files that hold it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from longrun.base.errors import ConfigError
from longrun.gallery.scheme_info import PAPER, PLACES, REFERENCE, by_family, facts, summary_of
from model import build
from model.pe.registry import names, options
from model.positions.registry import plans
from model.registry import CONFIGS
from scripts import schemes

ROOT = Path(__file__).resolve().parents[2]
SIZES = {"layers": REFERENCE.layers, "width": REFERENCE.width, "heads": REFERENCE.heads}
every_scheme = pytest.mark.parametrize("name", names())


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "scripts.schemes", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_names_come_one_a_line_and_without_torch() -> None:
    done = run("--names")
    assert done.stdout.split("\n")[:-1] == sorted(path.stem for path in (CONFIGS / "pe").glob("*.yaml"))
    code = "import sys; from scripts.schemes import main; main(['--names']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0


def test_every_scheme_is_listed_once() -> None:
    listed = [fact.name for members in by_family().values() for fact in members]
    assert sorted(listed) == names()
    lines = schemes.listing(200).splitlines()
    assert sorted(line.split()[0] for line in lines if line.startswith("  ")) == names()
    assert all(len(line) <= 90 for line in schemes.listing(90).splitlines())


@every_scheme
def test_what_is_said_is_so(name: str) -> None:
    """Facts are asked of encodings on the meta device; here real ones answer, and what they do is looked at."""
    fact = facts(name)
    model = build(64, REFERENCE.train_length, SIZES, name).eval()
    bare = build(64, REFERENCE.train_length, SIZES, "nope")
    assert fact.parameters == model.parameter_count() - bare.parameter_count()
    assert fact.scheme == options(name)["scheme"]
    assert set(fact.acts) <= set(PLACES.values())
    assert ("refused" in fact.length) == (model.max_positions is not None)
    if "refused" in fact.length:
        assert f"{model.max_positions:,}" in fact.length
    x = torch.randint(64, (1, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        changed = (model(x) - bare.eval()(x)).abs().max() > 1e-5
    assert fact.acts or not changed  # who changes the output acts somewhere


@every_scheme
def test_a_yaml_begins_with_what_it_is(name: str) -> None:
    text = (CONFIGS / "pe" / f"{name}.yaml").read_text()
    assert re.match(r"# [^\n]{8,}[^.\n]\n", text), "a comment of one line, no full stop"
    assert summary_of("pe", name)[0].isupper() or summary_of("pe", name).split()[0] in ("iRoPE,", "gpt-oss:")
    assert len(summary_of("pe", name)) <= 125


@pytest.mark.parametrize("name", plans.names())
def test_so_does_that_of_a_plan(name: str) -> None:
    assert re.match(r"# [^\n]+[^.\n]\n", (CONFIGS / "positions" / f"{name}.yaml").read_text())


def test_papers_are_links() -> None:
    assert facts("rope_alibi").papers == ("2104.09864", "2108.12409")
    row = next(line for line in schemes.table().splitlines() if "`rope_alibi`" in line)
    assert row.count("https://arxiv.org/abs/") == 2
    assert all(PAPER.fullmatch(number) for name in names() for number in facts(name).papers)


def test_links_of_the_table_lead_to_files() -> None:
    for folder in (ROOT, ROOT / "docs", ROOT / "docs" / "deeper"):
        links = re.findall(r"\]\(([^)h][^)]*\.py)\)", schemes.table(folder))
        assert len(links) == len(names())
        assert all((folder / link).resolve().is_file() for link in links)


def test_the_overview_is_short_and_names_everything() -> None:
    text = schemes.overview()
    assert len(text.splitlines()) <= 12
    assert set(names()) <= set(re.findall(r"`([a-z0-9_]+)`", text))


def test_writing_replaces_what_is_between_the_markers_and_no_more(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- schemes: start (make table) -->\nold\n<!-- schemes: end -->\nafter\\1\n")
    assert schemes.write(page)
    text = page.read_text()
    assert text.startswith("before\n<!-- schemes: start (make table) -->\n* **")
    assert text.endswith("\n<!-- schemes: end -->\nafter\\1\n")
    assert "old" not in text
    assert not schemes.write(page)
    page.write_text("nothing")
    with pytest.raises(ConfigError, match="no place for the schemes"):
        schemes.write(page)


def test_a_missing_file_is_answered_with_exit_code_2(tmp_path: Path) -> None:
    done = run("--write", str(tmp_path / "none.md"))
    assert done.returncode == 2
    assert "no such file" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_pages_of_the_repository_are_current(path: Path) -> None:
    """`make table` has been run since the last change of a scheme."""
    text = path.read_text(encoding="utf-8")
    for what, make in schemes.SECTIONS.items():
        found = re.search(f"<!-- {what}: start[^>]*-->\n(.*?)<!-- {what}: end -->", text, re.DOTALL)
        assert found is None or found[1] == make(path.parent) + "\n", f"{path.name} is not current: make table"
