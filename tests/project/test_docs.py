"""Execute the marked commands and snippets of the documentation, in order, in a copy of the repository.

    <!-- run -->  or <!-- run: slow -->      the fenced block below is executed (sh or python)
    <!-- run: lm_eval -->                    likewise, where lm_eval is installed
    <!-- file: PATH -->                      the fenced block below is written to PATH in the copy

Sizes are made tiny from outside: `python train.py` gets overrides behind its own, and the corpus is cut in the YAML.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from longrun.config.compose import options, parse

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"<!-- (run|run: \w+|file: [^ ]+) -->\n+```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TINY = "train.steps=3 train.batch=4 train.log_every=1 train.valid_windows=4 train.threads=1 eval.documents=2"
SIZES = "model.layers=1 model.width=32"  # of models that are made new
SHELL = f"""#!/bin/sh
case "$*" in
    train.py*--* | train.py*-sc*) exec {sys.executable} "$@" ;;
    train.py*init_from*) exec {sys.executable} "$@" {TINY} ;;
    train.py*) exec {sys.executable} "$@" {TINY} {SIZES} ;;
    *) exec {sys.executable} "$@" ;;
esac
"""


NEW = {
    "log_bias",
    "truncated",
    "strided",
    "count",
    "csv_rows",
    "digit_bpe",
    "skip_first",
    "adafactor",
    "NAME",
}  # what the pages add, and a placeholder


class Block(NamedTuple):
    mark: str
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(*match) for match in BLOCK.findall(page.read_text())]


def sections(page: Path) -> dict[str, list[Block]]:
    """The blocks below each heading of the second level; headings without blocks are left out."""
    parts = re.split(r"^## (.+)$", page.read_text(), flags=re.MULTILINE)
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    return {title: matches for title, text in pairs if (matches := [Block(*m) for m in BLOCK.findall(text)])}


SECTIONS = sections(ROOT / "docs" / "add-anything.md")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The repository without its history, its corpus cut to forty files, and a `python` that keeps runs small."""
    folder = tmp_path / "longrun"
    ignored = shutil.ignore_patterns("__pycache__", "golden")
    for name in ("configs", "data", "longrun", "model", "scripts", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("train.py", "eval.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
    (folder / "docs").mkdir()
    stdlib = folder / "configs" / "data" / "stdlib.yaml"
    text = stdlib.read_text().replace("documents: null", "documents: 60").replace("tokenizer: bpe", "tokenizer: byte")
    stdlib.write_text(text)
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(SHELL)
    python.chmod(0o755)
    return folder


def execute(block: Block, folder: Path) -> str:
    """Run a block, or write its file. Returns the standard output; fails on an exit code other than 0."""
    if block.mark.startswith("file: "):
        path = folder / block.mark.removeprefix("file: ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)
        return ""
    environment = {
        **os.environ,
        "PATH": f"{folder.parent / 'bin'}:{os.environ['PATH']}",
        "XDG_CACHE_HOME": str(folder.parent / "cache"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": "" if block.language == "sh" else str(folder),
    }
    command = ["bash", "-eu", "-o", "pipefail", "-c", block.text]
    if block.language == "python":
        command = [sys.executable, "-c", block.text]
    done = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1500
    )
    assert done.returncode == 0, f"{block.text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def every_block(page: str, folder: Path, slow: bool = True) -> list[str]:
    skipped = {"run: lm_eval"} | (set() if slow else {"run: slow"})
    selected = [block for block in blocks(ROOT / page) if block.mark not in skipped]
    assert selected
    return [execute(block, folder) for block in selected]


def test_a_scheme_is_one_file_and_one_yaml(copy: Path):
    """README.md and docs/add-a-scheme.md have the same example, and it is all that has to be written."""
    printed = every_block("docs/add-a-scheme.md", copy)
    files = [block for block in blocks(ROOT / "docs/add-a-scheme.md") if block.mark.startswith("file: ")]
    assert files == [block for block in blocks(ROOT / "README.md") if block.mark.startswith("file: ")]
    assert sum(len(block.text.splitlines()) for block in files) <= 30
    assert len(list(copy.glob("runs/log_bias-*/done"))) == 2
    assert len(list(copy.glob("runs/log_bias-*/eval/sliding.json"))) == 1
    assert (copy / "pictures" / "log_bias.png").stat().st_size > 5000
    assert any("\nlog_bias\n" in f"\n{text}" for text in printed)
    passed = [int(match[1]) for text in printed if (match := re.search(r"(\d+) passed", text))]
    assert passed[0] >= 8


@pytest.mark.parametrize("title", SECTIONS)
@pytest.mark.slow
def test_any_part_is_one_file_and_one_yaml(copy: Path, title: str):
    """Each example of docs/add-anything.md works on its own."""
    section = SECTIONS[title]
    assert any(block.mark.startswith("file: ") for block in section)
    assert any(block.mark == "run" for block in section)
    printed = "".join(execute(block, copy) for block in section)
    assert list(copy.glob("*/*/done"))
    if "pytest" in "".join(block.text for block in section):
        assert int(re.search(r"(\d+) passed", printed)[1]) >= 1


def test_data_in_the_documentation(copy: Path):
    printed = every_block("docs/data.md", copy, slow=False)
    assert "documents; " in printed[-1]
    assert "{'lines that are no rows skipped': 1}" in printed[-1]
    assert len(list(copy.glob("runs/rope-tiny-text-*/done"))) == 1


@pytest.mark.slow
def test_all_sources_in_the_documentation(copy: Path):
    every_block("docs/data.md", copy)
    done = {path.parent.name.rsplit("-", 3)[0] for path in copy.glob("runs/*/done")}
    assert done == {"rope-tiny-text", "rope-tiny-code", "rope-tiny-tokens", "alibi-tiny-text", "t5-tiny-text"}
    assert (
        len(list(copy.glob("runs/rope-tiny-tokens-*/done"))) == len(list(copy.glob("runs/rope-tiny-code-*/done"))) == 2
    )


@pytest.mark.slow
def test_fine_tuning_in_the_documentation(copy: Path):
    printed = "".join(every_block("docs/finetune-and-extend.md", copy))
    assert "as a llama" in printed
    assert len(list(copy.glob("longer/*/done"))) == 2
    assert len(list(copy.glob("longer-hf/rope.yarn-checkpoint-*-L128-*/done"))) == 1
    assert (copy / "longer" / "report.html").is_file()
    assert len(list(copy.glob("dropped*/nope-*/done"))) == 2
    assert {"fixed_targets-pi", "fixed_targets-drop"} <= {path.stem for path in copy.glob("base/rope-*/eval/*.json")}


@pytest.mark.slow
def test_python_in_the_documentation(copy: Path):
    printed = "".join(every_block("docs/from-python.md", copy))
    assert "1024 tokens of context" in printed
    assert "exported as longrun" in printed
    assert float(re.search(r"difference of the logits: (\S+)", printed)[1]) < 1e-4
    assert "'name': 'rope'" in printed


@pytest.mark.slow
def test_export_in_the_documentation(copy: Path):
    printed = "".join(every_block("docs/ecosystem.md", copy))
    assert "written to exported, as a llama" in printed
    assert (copy / "exported" / "eval" / "fixed_targets.json").is_file()


@pytest.mark.slow
def test_lm_eval_in_the_documentation(copy: Path):
    """lm_eval brings fifty packages and is none of ours: this runs where somebody has installed it."""
    pytest.importorskip("lm_eval")
    every_block("docs/ecosystem.md", copy)
    printed = "".join(
        execute(block, copy) for block in blocks(ROOT / "docs/ecosystem.md") if block.mark == "run: lm_eval"
    )
    measured = float(re.search(r"bits_per_byte\s*\|\S*\s*\|\s*([0-9.]+)", printed)[1])
    assert 1 < measured < 9


@pytest.mark.slow
def test_the_first_hour(copy: Path):
    printed = "".join(every_block("docs/quickstart.md", copy))
    assert "nothing to do" in printed
    assert len(list(copy.glob("*runs/*/done"))) == 4
    assert {path.stem for path in copy.glob("runs/rope-*/eval/*.json")} >= {"sliding", "per_position"}
    assert (copy / "runs" / "report.html").is_file()
    assert "torch.Size([2, 300, 512])" in printed


@pytest.mark.slow
@pytest.mark.parametrize("page", ["docs/sweeps.md", "README.md"])
def test_commands_of_a_page(copy: Path, page: str):
    every_block(page, copy)
    assert (copy / "runs" / "report.html").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http") and "figures/" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_names_what_exists(page: Path):
    """Those that are not run, too: scripts, and the groups and names of `train.py`."""
    text = page.read_text().replace("\\\n", " ")
    for name in re.findall(r"python -m scripts\.([\w.]+\w)", text):
        assert name == "NAME" or (ROOT / "scripts" / f"{name.replace('.', '/')}.py").is_file(), name
    for words in re.findall(r"^(?:python|torchrun.*?) train\.py ([^#\n`]*)", text, re.MULTILINE):
        for word in parse(re.sub(r"[\"']|--help", "", words).split()).overrides:
            group, _, names = word.partition("=")
            if (ROOT / "configs" / group).is_dir() and "/" not in group:
                unknown = set(names.split(",")) - set(options(group)) - NEW
                assert not unknown or "$" in names, word


PATHS = re.compile(r"(?:configs|data|docs|longrun|model|scripts|tests)/[\w./*-]*\w|\b(?:train|eval)\.py")


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs/decisions").glob("*.md"))], ids=str
)
def test_paths_in_backticks_exist(page: Path):
    """Paths of the repository in prose. A pattern has to match a file; examples and NAME are left out."""
    text = page.read_text()
    examples = {block.mark.removeprefix("file: ") for block in blocks(page)}
    for code in re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)):
        path = code.removesuffix("/")
        if PATHS.fullmatch(path) and path not in examples and Path(path).stem not in NEW:
            assert list(ROOT.glob(path)), f"{page.name}: {code}"


def test_readme_starts_with_what_to_do():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150
    assert any(line.startswith("make demo") for line in lines[:15])
