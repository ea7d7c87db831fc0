"""New text sources, tasks and tokenizers: one file and one YAML each, and one message per mistake in them."""

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from tiny_configs import config

import data.sources
import data.tasks
import data.tokenizers
import data.tokenizers.registry
from data import corpus, dataset
from longrun.base.errors import ConfigError, DataError
from longrun.runs.run_folder import name

SOURCE = """
from dataclasses import dataclass

from ..documents import Document
from ..options import CorpusOptions, option
from .base import Source


@dataclass(frozen=True, kw_only=True)
class Options(CorpusOptions):
    count: int = option("number of documents", minimum=1, example=100)
    letter: str = option("letter to write", choices=("a", "b"))


class OwnSource(Source):
    Options = Options

    def state(self):
        return "squares"

    def documents(self, warnings):
        for n in range(self.options["count"]):
            yield Document(str(n), f"{self.options['letter']}: {n} squared is {n * n}\\n" * 9)
"""
SOURCE_YAML = """
name: mine
source: own_source
count: 50
letter: a
documents: null
tokenizer: byte
vocab_size: null
valid_fraction: 0.1
test_fraction: 0.2
cache: null
"""
TASK = """
from dataclasses import dataclass

from .base import DIGITS, Task, draw, option


@dataclass(frozen=True)
class OwnTask(Task):
    base: int = option("digits to draw from", minimum=2, maximum=10, example=4)

    def question(self, size, rng):
        return draw(DIGITS[: self.base], size, rng)

    def answer(self, question):
        return question[-1]
"""
TASK_YAML = "name: own_task\nsource: own_task\nbase: 4\n"
TOKENIZER = """
from dataclasses import dataclass

from ..options import option
from .base import Tokenizer, TokenizerTrainer
from .bpe import train_bpe


@dataclass(frozen=True)
class OwnTokenizer(TokenizerTrainer):
    merges: int = option("number of merges", minimum=1, example=20)

    def train(self, texts):
        return train_bpe(texts, 257 + self.merges)
"""
TOKENIZER_YAML = "name: own_tokenizer\nmerges: 20\n"
PARTS = {
    "own_source": ("sources", "data", SOURCE, SOURCE_YAML),
    "own_task": ("tasks", "data", TASK, TASK_YAML),
    "own_tokenizer": ("tokenizers", "tokenizer", TOKENIZER, TOKENIZER_YAML),
}
Add = Callable[..., None]


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Add a part, in a folder that data/<room> and configs/ are extended with."""
    for module in (dataset, data.tokenizers.registry):
        monkeypatch.setattr(module, "CONFIGS", tmp_path / "configs")

    def function(part: str, *replacements: tuple[str, str]) -> None:
        room, group, code, values = PARTS[part]
        for old, new in replacements:
            assert old in code + values
            code, values = code.replace(old, new), values.replace(old, new)
        (tmp_path / room).mkdir(exist_ok=True)
        (tmp_path / "configs" / group).mkdir(parents=True, exist_ok=True)
        (tmp_path / room / f"{part}.py").write_text(code)
        (tmp_path / "configs" / group / f"{part}.yaml").write_text(values)
        package = sys.modules[f"data.{room}"]
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / room)])

    yield function
    for module in [module for module in sys.modules if module.rsplit(".")[-1] in PARTS]:
        del sys.modules[module]


def checked(tmp_path: Path, words: str):
    return config(f"--config-dir {tmp_path / 'configs'} {words}")


def test_a_text_source_is_one_file_and_one_yaml(add: Add, tmp_path: Path) -> None:
    add("own_source")
    made = checked(tmp_path, "data=own_source data.letter=b data.count=60")
    assert asdict(made.data) | {"letter": "b", "count": 60} == asdict(made.data)
    assert "path" not in asdict(made.data)
    assert name(made) != name(checked(tmp_path, "data=own_source"))
    first = corpus.prepare(asdict(made.data), cache=tmp_path / "cache")
    assert sum(split["documents"] for split in first.provenance["splits"].values()) == 60
    other = corpus.prepare(asdict(made.data) | {"letter": "a"}, cache=tmp_path / "cache")
    assert other.folder != first.folder  # its own options are part of the cache key
    for words, message in [
        ("data.count=0", r"data.count=0: expected a whole number, 1 or more"),
        ("data.count=x", r"data.count=x: expected a whole number"),
        ("data.letter=c", r"data.letter=c: unknown choice"),
        ("data.leter=b", r"(?s)there is no key data.leter.*data.letter"),
    ]:
        with pytest.raises(ConfigError, match=message):
            checked(tmp_path, f"data=own_source {words}")
    with pytest.raises(DataError, match=r"data.letter=c is unknown"):
        corpus.prepare(asdict(made.data) | {"letter": "c"}, cache=tmp_path / "cache")
    with pytest.raises(DataError, match=r"data.count is missing"):
        corpus.prepare({key: value for key, value in asdict(made.data).items() if key != "count"})


def test_a_task_is_one_file_and_one_yaml(add: Add, tmp_path: Path) -> None:
    add("own_task")
    made = checked(tmp_path, "data=own_task data.base=3")
    assert asdict(made.data) == {"name": "own_task", "source": "own_task", "base": 3}
    assert dataset.prepare(asdict(made.data)).provenance["options"]["base"] == 3
    with pytest.raises(ConfigError, match=r"data.base=11: expected a whole number, 2 or more, at most 10"):
        checked(tmp_path, "data=own_task data.base=11")


def test_a_tokenizer_is_one_file_and_one_yaml(add: Add, tmp_path: Path) -> None:
    add("own_tokenizer")
    (tmp_path / "a.txt").write_text("the cat sat on the mat with another animal, and that was the end of it\n" * 99)
    words = f"data=text data.path={tmp_path / 'a.txt'}"
    usual = checked(tmp_path, f"{words} data.tokenizer=own_tokenizer")
    assert usual.data.tokenizer == {"name": "own_tokenizer", "merges": 20}  # part of the configuration and of the name
    few = checked(tmp_path, f"{words} data.tokenizer={{name:own_tokenizer,merges:5}}")
    assert few.data.tokenizer == {"name": "own_tokenizer", "merges": 5}
    assert name(few) != name(usual)
    assert corpus.prepare(asdict(few.data), cache=tmp_path / "cache").tokenizer.vocab_size == 262
    assert corpus.prepare(asdict(usual.data), cache=tmp_path / "cache").tokenizer.vocab_size == 277
    short = corpus.prepare(asdict(usual.data) | {"tokenizer": "own_tokenizer"}, cache=tmp_path / "cache")
    assert short.folder == corpus.prepare(asdict(usual.data), cache=tmp_path / "cache").folder
    assert checked(tmp_path, f"{words} data.tokenizer={{name:byte}}").data.tokenizer == "byte"
    for choice, message in [
        ("{name:own_tokenizer,merges:0}", r"data.tokenizer.merges=0: expected a whole number, 1 or more"),
        ("{name:own_tokenizer,size:3}", r"(?s)data.tokenizer.size is not an option of own_tokenizer.*merges"),
        ("{name:own_tokeniser}", r"(?s)no data/tokenizers/own_tokeniser.py.*Did you mean own_tokenizer"),
        ("own_tokeniser", r"(?s)data.tokenizer=own_tokeniser is neither.*data.tokenizer=own_tokenizer"),
    ]:
        with pytest.raises((ConfigError, DataError), match=message):
            checked(tmp_path, f"{words} data.tokenizer={choice}")


WORDS = {"own_source": "data=own_source", "own_task": "data=own_task", "own_tokenizer": "data.tokenizer=own_tokenizer"}
CLASSES = {
    "own_source": "OwnSource(Source)",
    "own_task": "OwnTask(Task)",
    "own_tokenizer": "OwnTokenizer(TokenizerTrainer)",
}
FILES = {part: f"data/{PARTS[part][0]}/{part}.py" for part in PARTS}


def refused(tmp_path: Path, part: str) -> str:
    with pytest.raises(DataError) as raised:
        checked(tmp_path, WORDS[part])
    assert 2 <= len(str(raised.value).splitlines()) <= 4
    return str(raised.value)


@pytest.mark.parametrize("part", PARTS)
def test_a_class_with_another_name(part: str, add: Add, tmp_path: Path) -> None:
    add(part, (f"class {CLASSES[part]}", f"class Other({CLASSES[part].split('(')[1]}"))
    message = refused(tmp_path, part)
    assert f"{FILES[part]} does not define class {CLASSES[part].split('(')[0]}; it defines" in message
    assert "Other" in message
    assert f"write class {CLASSES[part]}" in message


@pytest.mark.parametrize("part", PARTS)
def test_a_class_of_another_kind(part: str, add: Add, tmp_path: Path) -> None:
    class_name, base = CLASSES[part].removesuffix(")").split("(")
    add(part, (f"class {class_name}({base})", f"class {class_name}"))
    assert f"class {class_name} in {FILES[part]} is not a {base}" in refused(tmp_path, part)


@pytest.mark.parametrize("part", PARTS)
def test_a_file_that_is_not_python(part: str, add: Add, tmp_path: Path) -> None:
    add(part, ("def ", "define "))
    message = refused(tmp_path, part)
    assert f"{FILES[part]} cannot be imported: line " in message
    assert f"{part}.py is not Python: invalid syntax" in message


@pytest.mark.parametrize("part", PARTS)
def test_a_file_with_a_failing_import(part: str, add: Add, tmp_path: Path) -> None:
    add(part, ("from dataclasses", "from dataclases"))
    message = refused(tmp_path, part)
    assert f"{FILES[part]} cannot be imported: ModuleNotFoundError: No module named 'dataclases'" in message
    assert f"class {CLASSES[part]}" in message


@pytest.mark.parametrize(
    ("part", "method"), [("own_source", "state"), ("own_task", "answer"), ("own_tokenizer", "train")]
)
def test_a_method_that_is_missing(part: str, method: str, add: Add, tmp_path: Path) -> None:
    add(part, (f"def {method}(", "def other("))
    message = refused(tmp_path, part)
    assert f"in {FILES[part]} does not define {method}()" in message
    assert f"def {method}(self" in message.splitlines()[1]


def test_a_source_without_documents(add: Add, tmp_path: Path) -> None:
    add("own_source", ("def documents(", "def other("))
    options = asdict(checked(tmp_path, "data=own_source").data)
    with pytest.raises(DataError, match=r"(?s)OwnSource.*data.source=own_source does not define documents"):
        corpus.prepare(options, cache=tmp_path / "cache")


@pytest.mark.parametrize("part", PARTS)
def test_options_without_a_dataclass(part: str, add: Add, tmp_path: Path) -> None:
    decorator = "@dataclass(frozen=True, kw_only=True)" if part == "own_source" else "@dataclass(frozen=True)"
    add(part, (decorator, ""))
    message = refused(tmp_path, part)
    assert FILES[part] in message
    assert "is not a dataclass.\nPut @dataclass(frozen=True" in message


MISSING = {
    "own_source": ("count: 50\n", "count"),
    "own_task": ("base: 4\n", "base"),
    "own_tokenizer": ("merges: 20\n", "merges"),
}


@pytest.mark.parametrize("part", PARTS)
def test_an_option_that_the_yaml_does_not_set(part: str, add: Add, tmp_path: Path) -> None:
    line, key = MISSING[part]
    add(part, (line, ""))
    message = refused(tmp_path, part)
    assert f"configs/{PARTS[part][1]}/{part}.yaml does not set {key}, an option of class" in message
    assert FILES[part] in message
    assert f"Add a line such as {key}: " in message


@pytest.mark.parametrize("part", PARTS)
def test_an_option_that_the_class_does_not_declare(part: str, add: Add, tmp_path: Path) -> None:
    line, key = MISSING[part]
    add(part, (line, f"{line}colour: red\n"))
    message = refused(tmp_path, part)
    assert f"configs/{PARTS[part][1]}/{part}.yaml sets colour, which class" in message
    assert FILES[part] in message
    assert key in message.splitlines()[1]


@pytest.mark.parametrize("part", ["own_source", "own_task"])
def test_a_source_that_matches_no_file(part: str, add: Add, tmp_path: Path) -> None:
    add(part, (f"source: {part}", "source: own_sourec"))
    message = refused(tmp_path, part)
    assert "there is neither data/sources/own_sourec.py nor data/tasks/own_sourec.py" in message
    assert "Sources: code, hub, jsonl" in message


def test_a_name_in_the_yaml_of_a_tokenizer_that_is_not_its_file(add: Add, tmp_path: Path) -> None:
    add("own_tokenizer", ("name: own_tokenizer", "name: others"))
    message = refused(tmp_path, "own_tokenizer")
    assert message == (
        "configs/tokenizer/own_tokenizer.yaml has name: others, and its file name is own_tokenizer.\n"
        "Write name: own_tokenizer"
    )
