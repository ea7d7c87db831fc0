"""Mistakes in a new scheme, extension or position plan: one short error that names the file and what was expected."""

import textwrap
from pathlib import Path

import pytest

from model.errors import ModelError
from model.extension.registry import first_form
from model.extension.registry import resolve as resolve_extension
from model.pe.registry import schemes
from model.registry import Registry

CODE = """
    class Mine(Base):
        def __init__(self, shape, *, size: int, share: float | None):
            pass
"""
YAML = """
    # A scheme for this test.
    name: mine
    scheme: mine
    size: 4
    share: null
"""
GROUPS = ["pe", "positions", "extension"]
every_group = pytest.mark.parametrize("group", GROUPS)


def registry(root: Path, group: str, code: str = CODE, yaml: str = YAML) -> Registry:
    for path, text in ((f"model/{group}/mine.py", code), (f"configs/{group}/mine.yaml", yaml)):
        (root / path).parent.mkdir(parents=True)
        (root / path).write_text(textwrap.dedent(text))
    return Registry(group, "plug-in", root=root)


@every_group
def test_a_new_part_without_mistakes_is_resolved(group: str, tmp_path: Path) -> None:
    resolved = registry(tmp_path, group).resolve({"name": "mine", "share": 1})
    assert resolved == {"name": "mine", "scheme": "mine", "size": 4, "share": 1.0}


MISTAKES = {
    "class of another name": (
        "code",
        "class Mine",
        "class Other",
        "has no class Mine. It defines Other.\n.*class Mine",
    ),
    "no class at all": ("code", "class Mine(Base)", "def mine()", "has no class Mine.\n.*class Mine"),
    "syntax error": ("code", "size: int,", "size: int,,", "line 3: invalid syntax.\n.*size: int,,"),
    "no type": ("code", "size: int", "size", "line 3: the option `size` has no type.\n.*size: int"),
    "another type": ("code", "size: int", "size: Tensor", "line 3: the type of the option `size` is Tensor.\n.*int,"),
    "no value": ("yaml", "size: 4", "", "has no value for `size`, an option of Mine in {py}.\nAdd a line size: .*int"),
    "no such option": (
        "yaml",
        "size: 4",
        "size: 4\n    sizes: 5",
        "`sizes` is not an option of Mine in {py}.\n.*size, ",
    ),
    "positional": ("code", "*, size: int", "size: int, *", "`size` is not an option of Mine in {py}.\n.*after `\\*`"),
    "another name": ("yaml", "name: mine", "name: other", "name is other.\nWrite name: mine"),
    "no name": ("yaml", "name: mine", "", "name is None.\nWrite name: mine"),
    "no such file": (
        "yaml",
        "scheme: mine",
        "scheme: mime",
        "scheme is mime, .*no {folder}/mime.py.\nDid you mean mine",
    ),
    "no scheme": ("yaml", "scheme: mine", "", "scheme is None, .*\nWrite scheme: NAME of a file in {folder}"),
    "not YAML": ("yaml", "name: mine", "name: [mine", "line 4, is not valid YAML: expected"),
    "not a mapping": ("yaml", YAML.strip(), "- mine", "must be a mapping"),
    "default of another type": ("yaml", "size: 4", "size: four", "size=four: expected int.\nCorrect {yaml}"),
}


@every_group
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_new_part_is_one_error_that_names_the_file(mistake: str, group: str, tmp_path: Path) -> None:
    file, old, new, expected = MISTAKES[mistake]
    texts = {"code": CODE, "yaml": YAML}
    assert texts[file].count(old) == 1
    texts[file] = texts[file].replace(old, new)
    files = {"py": f"model/{group}/mine.py", "yaml": f"configs/{group}/mine.yaml", "folder": f"model/{group}"}
    with pytest.raises(ModelError, match="(?s)" + expected.format(**files)) as error:
        registry(tmp_path, group, **texts).resolve("mine")
    message = str(error.value)
    assert files["py" if file == "code" and mistake != "positional" else "yaml"] in message
    assert str(tmp_path) not in message
    assert len(message.splitlines()) <= 3


def test_an_inherited_constructor_is_found_in_a_folder_below(tmp_path: Path) -> None:
    mine = registry(tmp_path, "pe", "from .common.shared import Base\nclass Mine(Base):\n    pass\n")
    (tmp_path / "model/pe/common").mkdir()
    (tmp_path / "model/pe/common/shared.py").write_text(textwrap.dedent(CODE).replace("class Mine", "class Base"))
    assert mine.signature("mine") == {"size": int, "share": float | None}


PART = "class AddPart(Base):\n    def __init__(self, shape, *, part: str, **options): pass\n"


@pytest.mark.parametrize(
    ("yaml", "expected"),
    [
        ("part: nothing", "part is nothing, and there is no model/pe/nothing.py"),
        ("part: window", "has no value for `size`"),
        ("part: window\nsize: 4\nother: 5", "`other` is not an option"),
    ],
)
def test_a_mistake_in_an_extension_by_a_part_names_the_yaml(yaml: str, expected: str, tmp_path: Path) -> None:
    extensions = registry(tmp_path, "extension", PART, f"name: mine\nscheme: add_part\n{yaml}\n")
    (tmp_path / "model/extension/mine.py").rename(tmp_path / "model/extension/add_part.py")
    extensions.parts = schemes
    with pytest.raises(ModelError, match=f"^configs/extension/mine.yaml.*{expected}"):
        extensions.resolve("mine")


@pytest.mark.parametrize(
    "stored",
    [
        {"name": "rerope", "scheme": "rerope", "window": 64},
        {"name": "window", "scheme": "window", "size": None},
        {"name": "drop", "scheme": "drop"},
        {"name": "rerope_logn", "scheme": "chain", "lengths": None, "trained": None}
        | {"parts": [{"name": "rerope", "scheme": "rerope", "window": 0.5}, {"name": "logn", "scheme": "logn"}]},
    ],
    ids=lambda stored: stored["name"],
)
def test_an_extension_stored_under_its_former_scheme_is_resolved_and_hashed_as_before(stored: dict) -> None:
    resolved = resolve_extension(stored)
    assert resolved["scheme"] in ("add_component", "replace_rope", "chain")
    assert resolve_extension(resolved) == resolved
    before = first_form(resolved)
    assert before == stored | ({"parts": before["parts"]} if "parts" in stored else {})
    assert [part["scheme"] for part in before.get("parts", [])] == [part["scheme"] for part in stored.get("parts", [])]


def test_the_part_of_an_extension_cannot_be_changed() -> None:
    with pytest.raises(ModelError, match=r"extension\.part=logn: part of rerope is rerope"):
        resolve_extension({"name": "rerope", "part": "logn"})
