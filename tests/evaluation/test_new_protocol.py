"""A new protocol is one file: it runs, its options are checked, and a mistake in the file is reported with its name."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from training_runs import ROOT, SMALL, write_corpus

PROTOCOL = '''
from dataclasses import dataclass

from data import windows as w
from longrun.evaluation.protocols.base import TextProtocol, option


@dataclass(frozen=True)
class FirstTokens(TextProtocol):
    """The first tokens of every document."""

    count: int = option("scored tokens per document", 4, within_window=True, minimum=1, maximum=20, example=4)

    def windows(self, offsets, lengths):
        documents = w.choose(offsets, max(lengths) + 1, self.documents)
        start = offsets[documents]
        return {n: w.Windows(documents, start, start + n, start + 1, start + 1 + self.count) for n in lengths}
'''
BROKEN = {  # file -> parts of the message
    "class Broken(:": ["cannot be imported: SyntaxError", "line 1", "class Broken(Protocol)"],
    "import no_such_module": ["cannot be imported: ModuleNotFoundError: No module named 'no_such_module'"],
    PROTOCOL: ["it has no class Broken(Protocol)", "it defines: FirstTokens"],
    PROTOCOL.replace("FirstTokens", "Broken").replace("@dataclass(frozen=True)", ""): [
        "count is an option, and Broken is no dataclass",
        "@dataclass(frozen=True)",
    ],
    PROTOCOL.replace("FirstTokens", "Broken").replace("def windows", "def window"): ["Broken does not define windows"],
    PROTOCOL.replace("FirstTokens", "Broken").replace('option("', 'int("'): ["cannot be imported: TypeError"],
    PROTOCOL.replace("FirstTokens", "Broken").replace('document", 4,', 'document",'): [
        "cannot be imported: TypeError: option() missing 1 required positional argument: 'default'"
    ],
    PROTOCOL.replace("FirstTokens", "Broken").replace("    count", "    spare: int = 3\n    count"): [
        "spare is a field without a description",
        'spare: TYPE = option("what it is", DEFAULT)',
    ],
    PROTOCOL.replace("FirstTokens", "Broken").replace("count", "k"): [
        "declares the option k differently from longrun/evaluation/protocols/broken.py"
    ],
    PROTOCOL.replace("FirstTokens", "Broken").replace("count", "device"): [
        "declares the option device, which is a key of every evaluation"
    ],
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository, as far as training and evaluation need it."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("model", "data", "longrun", "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train.py", "eval.py"):
        shutil.copy(ROOT / name, folder)
    return folder


def run(tree: Path, *words: str) -> tuple[int, str]:
    """Exit code and output of a command in the copy."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONPATH", None)
    command = [sys.executable, *words]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


def test_a_new_file_is_a_new_protocol(tree: Path, tmp_path: Path):
    file = tree / "longrun" / "evaluation" / "protocols" / "first_tokens.py"
    file.write_text(PROTOCOL)
    try:
        steps = ["train.steps=2", "eval.protocol=first_tokens", "eval.count=3", "eval.targets=null"]
        code, output = run(tree, "train.py", *SMALL, *steps, *write_corpus(tmp_path), f"root={tmp_path / 'runs'}")
        assert code == 0, output
        (folder,) = (tmp_path / "runs").glob("rope-*")
        record = json.loads((folder / "eval" / "first_tokens.json").read_text())
        assert record["options"] == {"documents": 4, "count": 3}
        assert all(row["tokens"] == 3 * row["documents"] for row in record["rows"])

        code, output = run(tree, "eval.py", f"run={folder}", "count=5", f"out={tmp_path}")
        assert code == 0, output
        assert json.loads((tmp_path / "first_tokens.json").read_text())["options"]["count"] == 5

        for words, expected in {
            "count=21": "count=21: expected a whole number, 1 or more, at most 20",
            "lengths=[8] count=9": "count=9 does not fit into the shortest window, 8 tokens",
            "cuont=3": "Did you mean count",
            "protocol=sliding count=3": "count=3 is an option of first_tokens, and this is protocol=sliding",
            "protocol=first_token": "Did you mean protocol=first_tokens?",
        }.items():
            code, output = run(tree, "eval.py", f"run={folder}", *words.split())
            assert (code, expected in output) == (2, True), output
        code, output = run(tree, "eval.py", "--help")
        assert (code, "  first_tokens   count=4\n" in output) == (0, True), output
    finally:
        file.unlink()


@pytest.mark.parametrize("number", range(len(BROKEN)))
def test_a_mistake_in_the_file_is_reported_with_its_name(tree: Path, number: int):
    content, expected = list(BROKEN.items())[number]
    file = tree / "longrun" / "evaluation" / "protocols" / "broken.py"
    file.write_text(content)
    try:
        code, output = run(tree, "eval.py", "protocol=broken")
    finally:
        file.unlink()
    assert code == 2, output
    for part in ["longrun/evaluation/protocols/broken.py", *expected]:
        assert part in output
    assert len(output.splitlines()) <= 3


def test_an_unknown_option_in_a_yaml_file_is_refused(tree: Path):
    file = tree / "configs" / "eval" / "short.yaml"
    file.write_text("defaults: [default]\nblokcs: 2\n")
    try:
        code, output = run(tree, "train.py", "eval=short")
    finally:
        file.unlink()
    assert code == 2, output
    assert "eval.blokcs=2: there is no key eval.blokcs.\nDid you mean eval.blocks" in output
