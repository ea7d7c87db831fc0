"""The command line: what is accepted, what is refused and how, and that none of it waits for torch."""

import json
import re
import resource
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from tiny_configs import ROOT, config

from longrun.base.errors import ConfigError
from longrun.base.paths import CONFIGS
from longrun.config import cli, compose, cross_checks, schema
from longrun.config.eval_overrides import with_protocol_options
from longrun.config.help import text
from longrun.config.validate import dotted_keys

# (command line of train.py, what the message must say)
TRAIN_REFUSED = [
    ("pe=rpoe", ["pe=rpoe", "Did you mean pe=rope?", "alibi"]),
    ("pe=", ["pe=:", "rope"]),
    ("pe=RoPE", ["pe=RoPE", "Did you mean pe=rope?"]),
    ("pe=yarn", ["pe=yarn", "There is extension=yarn"]),
    ("positions=rope", ["positions=rope", "There is pe=rope"]),
    ("pe.bse=1", ["pe.bse=1", "base"]),
    ("pe.base=abc", ["pe.base=abc", "float", "pe.base=10000.0"]),
    ("pe={name:rope}", ["pe={name: rope}", "pe.KEY=VALUE"]),
    ("pe=rope,alibi", ["pe=rope,alibi", "add -m"]),
    ("positions=nowhere", ["positions=nowhere", "contiguous"]),
    ("model=huge", ["model=huge", "tiny"]),
    ("data=stdlibs", ["data=stdlibs", "Did you mean data=stdlib?"]),
    ("experiment=dmo", ["experiment=dmo", "demo"]),
    ("train.lenght=64", ["train.lenght=64", "train.length"]),
    ("steps=100", ["steps=100", "train.steps"]),
    ("feed_forward=gelu", ["feed_forward=gelu", "model.mlp=gelu"]),
    ("lr=0.1", ["lr=0.1", "optim.lr"]),
    ("batch_size=8", ["batch_size=8", "There are:", "train"]),
    ("+foo=1", ["foo=1", "There are:"]),
    ("train=3", ["train=3", "several keys", "train.length="]),
    ("train.steps=many", ["train.steps=many", "a whole number, 1 or more", "train.steps=1000"]),
    ("train.steps=1.5", ["train.steps=1.5", "a whole number"]),
    ("train.steps=0", ["train.steps=0", "1 or more"]),
    ("train.length=1", ["train.length=1", "2 or more"]),
    ("train.compile=maybe", ["train.compile=maybe", "auto, true, false"]),
    ("train.precision=fp16", ["train.precision=fp16", "bf16", "auto"]),
    ("train.device=tpu", ["train.device=tpu", "cpu"]),
    ("train.batch=10 train.micro_batch=4", ["train.batch=10", "train.micro_batch=4", "train.micro_batch=2"]),
    ("seed=-1", ["seed=-1", "0 or more"]),
    ("seed=null", ["seed=null", "a whole number"]),
    ("optim.lr=fast", ["optim.lr=fast", "a number, more than 0", "optim.lr=0.001"]),
    ("optim.lr=0", ["optim.lr=0", "more than 0"]),
    ("optim.betas=[0.9]", ["optim.betas=[0.9]", "two numbers"]),
    ("optim.betas=0.9", ["optim.betas=0.9", "a list of numbers", "[0.9,0.95]"]),
    ("optim.schedule=linear", ["optim.schedule=linear", "cosine"]),
    ("optim=wsd optim.warmup_fraction=0.9", ["optim.warmup_fraction=0.9", "at most 1"]),
    ("model.width=100 model.heads=3", ["model.width=100", "model.heads=3", "model.width=99"]),
    ("model.kv_heads=3", ["model.kv_heads=3", "1, 2, 4"]),
    ("model.mlp=relu", ["model.mlp=relu", "gelu"]),
    ("data=text", ["data.path"]),
    ("data.valid_fraction=0.5 data.test_fraction=0.5", ["data.valid_fraction=0.5", "less than 1"]),
    ("eval.lengths=64,128", ["eval.lengths=64,128", "[64,128]"]),
    ("eval.lengths=[]", ["eval.lengths=[]", "at least one"]),
    ("eval.lengths=[64] eval.targets=65", ["eval.targets=65", "64 tokens", "eval.targets=64"]),
    ("eval.stride=32", ["eval.stride=32", "an option of sliding", "eval.protocol=sliding eval.stride=32"]),
    ("data=copy eval.k=3", ["eval.k=3", "last_k", "eval.protocol=exact_match"]),
    ("eval.protocol=slide", ["eval.protocol=slide", "sliding"]),
    ("tracker=wandb", ["tracker=wandb", "offline"]),
    ("rope", ["rope: expected key=value", "pe=rope"]),
    ("data.path=[1", ["data.path=[1", "quotes"]),
    ("seed=${nope}", ["nope"]),
    ("--lr 0.1", ["--lr", "optim.lr=0.001"]),
    ("--config-dir nowhere", ["--config-dir nowhere"]),
    ("~pe", ["pe is missing"]),
    ("-m pe=rope,rpoe seed=0,1", ["pe=rpoe", "Did you mean pe=rope?"]),
    ("-m pe=rope,alibi model.width=128,100 model.heads=8", ["model.width=100", "model.heads=8"]),
    ("-m pe=rope,alibi --cfg job", ["--cfg", "-m"]),
    ("experiment=demo", ["sweep over pe", "-m experiment=demo", "experiment=demo pe=..."]),
    ("-m pe=rope,alibi train.lenght=3", ["train.lenght=3", "train.length"]),
]
EVAL_REFUSED = [
    ("", ["run=", "hf="]),
    ("run=runs/none", ["run=runs/none", "does not exist"]),
    ("run=RUN hf=RUN", ["one model"]),
    ("hf=RUN data=stdlib", ["hf=", "config.json"]),
    ("run=RUN protocol=slide", ["protocol=slide", "sliding"]),
    ("run=RUN extension=yarm", ["extension=yarm", "none"]),
    ("run=RUN extension.factr=2", ["extension.factr=2"]),
    ("run=RUN data.pth=x", ["data.pth=x", "data.path"]),
    ("run=RUN protocol=sliding stride=100", ["stride=100", "stride=32"]),
    ("run=RUN lengths=64,128", ["lengths=64,128", "[64,128]"]),
    ("run=RUN model=tiny", ["model=tiny", "there is no key model"]),
    ("run=RUN pe=alibi", ["pe=alibi", "init_from=RUN pe=alibi", "extension="]),
    ("RUN", ["expected key=value", "Try run=RUN"]),
    ("run=RUN stride=16", ["stride=16", "an option of sliding", "protocol=sliding stride=16"]),
    ("-m run=RUN", ["one model at a time"]),
]


@pytest.fixture
def answer(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """(exit code, stderr) of a command line, from this process. Anything that would start is a failed test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RANK", raising=False)

    def ask(program: str, words: list[str]) -> tuple[int, str]:
        code = cli.guarded(lambda: cli.dispatch(program, "no_such_module:main", words))
        return code, capsys.readouterr().err

    return ask


def run_folder(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.yaml").write_text("train: {length: 64}\n")
    return folder


@pytest.mark.parametrize(("words", "said"), TRAIN_REFUSED, ids=[words for words, _ in TRAIN_REFUSED])
def test_a_mistake_is_answered(answer, tmp_path: Path, words: str, said: list[str]):
    code, message = answer("train", [*words.split(), "root=made"])
    assert code == 2
    for expected in said:
        assert expected in message
    assert len(message.splitlines()) <= 4
    assert "Traceback" not in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("words", "said"), EVAL_REFUSED, ids=[words for words, _ in EVAL_REFUSED])
def test_a_mistake_in_an_evaluation_is_answered(answer, tmp_path: Path, words: str, said: list[str]):
    run = str(run_folder(tmp_path / "run"))
    code, message = answer("eval", words.replace("RUN", run).split())
    assert code == 2
    for expected in said:
        assert expected in message.replace(run, "RUN")
    assert len(message.splitlines()) <= 4
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_run_is_measured_as_it_was_but_for_what_is_said(tmp_path: Path):
    run = run_folder(tmp_path / "run")
    own = {"protocol": "fixed_targets", "ratios": [1, 4], "lengths": None, "documents": 5, "targets": 9, "blocks": 2}
    text = {"source": "text", "path": "book.txt"}
    (run / "config.yaml").write_text(yaml.safe_dump({"train": {"length": 64}, "eval": own, "data": text}))

    def asked(*words: str) -> schema.EvalRunConfig:
        arguments = compose.parse([f"run={run}", *words])
        values = compose.compose("eval", schema.EvalRunConfig, arguments, lambda values: None)
        return cross_checks.eval_config(values)

    same = asked("extension=yarn")
    assert same.resolved_lengths(64) == [64, 256]
    assert (same.documents, same.targets, same.blocks, same.split) == (5, 9, 2, "test")
    assert [each["name"] for each in same.extensions] == ["yarn"]
    other = asked("lengths=[32,2048]", "blocks=3")
    assert other.resolved_lengths(64) == [32, 2048]
    assert (other.documents, other.targets, other.blocks) == (5, 32, 3)  # as many targets as the lengths allow
    assert asked("protocol=sliding", "stride=8").resolved_lengths(64) == [64, 256]
    task = asked("data=copy")
    assert task.protocol == "exact_match"
    assert len(task.resolved_lengths(64)) > 2


def test_unknown_option_of_a_group_lists_the_closest_first(answer):
    _, message = answer("train", ["pe=alibbi"])
    listed = message.splitlines()[-1].removeprefix("There are: ").split(", ")
    assert listed[0] == "alibi"
    assert sorted(listed) == compose.options("pe")


def test_sweep_inside_torchrun_is_refused(answer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    code, message = answer("train", ["-m", "pe=rope,alibi"])
    assert (code, "launch.nproc=2" in message) == (2, True)


def test_only_the_first_rank_answers(answer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RANK", "1")
    assert answer("train", ["pe=rpoe"]) == (2, "")


def test_a_bug_shows_its_traceback(answer):
    code, message = answer("train", ["pe=rope", "root=made"])
    assert code == 1
    assert "Traceback" in message
    assert "ModuleNotFoundError" in message


def test_ctrl_c_is_130(capsys: pytest.CaptureFixture[str]):
    def interrupted() -> int:
        raise KeyboardInterrupt

    assert cli.guarded(interrupted) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_whole_numbers_may_be_written_as_powers_of_ten():
    loop = config("train.steps=1e3 train.batch=6.4e1").train
    assert (loop.steps, loop.batch) == (1000, 64)
    assert isinstance(loop.steps, int)


def test_values_reach_the_configuration():
    found = config("pe=rope pe.base=500 model.width=64 optim=wsd data.path=null tracker=off train.length=48 seed=3")
    assert found.pe["base"] == 500.0
    assert (found.model.width, found.model.layers, found.model.name) == (64, 4, "tiny")
    assert (found.optim.schedule, found.optim.name, found.tracker.mode) == ("wsd", "adamw", "off")
    assert found.eval.resolved_lengths(48) == [24, 48, 96, 192, 384, 768]
    assert found.eval.targets == 24  # what fits into the shortest window
    assert json.loads(json.dumps(asdict(found)))["seed"] == 3


def test_added_and_forced_keys_are_checked_like_all_others():
    assert config("+train.steps=7").train.steps == 7
    assert config("++train.steps=7").train.steps == 7


COMPLETION = """
PATH={bin}:$PATH
eval "$(python train.py -sc install=bash)"
COMP_LINE="{line}" COMP_POINT=${{#COMP_LINE}} COMP_CWORD=2
hydra_bash_completion
echo "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("python train.py pe=rope_w", {"pe=rope_window"}),
        ("python train.py train.len", {"train.length="}),
        ("python eval.py extension=yar", {"extension=yarn", "extension=yarn_code"}),
    ],
)
def test_tab_completes(line: str, completed: set[str]):
    """In bash, as the user's shell would: `eval "$(python train.py -sc install=bash)"`, then the key."""
    script = COMPLETION.format(bin=Path(sys.executable).parent, line=line)
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert set(done.stdout.split()) == completed, done.stderr


@pytest.mark.parametrize("name", compose.options("pe"))
def test_every_encoding_composes(name: str):
    assert config(f"pe={name}").pe["name"] == name


@pytest.mark.parametrize("group", ["model", "positions", "optim", "tracker", "launch", "eval"])
def test_every_file_of_a_group_composes(group: str):
    for name in compose.options(group):
        assert isinstance(config(f"{group}={name}"), schema.TrainConfig)


@pytest.mark.parametrize("name", compose.options("experiment"))
def test_an_experiment_that_is_a_sweep_is_not_taken_for_one_run(name: str):
    """Hydra would drop what is swept, and train whatever the defaults are."""
    with pytest.raises(ConfigError, match=f"python train.py -m experiment={name}") as refused:
        config(f"experiment={name}")
    swept = re.search("a sweep over (.*)[.]\n", str(refused.value))[1].split(", ")
    chosen = yaml.safe_load((CONFIGS / "experiment" / f"{name}.yaml").read_text())["hydra"]["sweeper"]["params"]
    assert swept == [*chosen]
    one = " ".join(f"{key}={str(values).split(',')[0]}" for key, values in chosen.items())
    assert isinstance(config(f"experiment={name} {one}"), schema.TrainConfig)


def test_yaml_files_hold_a_value_for_every_key():
    """Values live in YAML only: a key without one could not be run with the defaults. And every key is explained."""
    assert isinstance(config(""), schema.TrainConfig)
    assert [
        key for key, _, rules in dotted_keys(with_protocol_options(schema.TrainConfig)) if not rules.get("doc")
    ] == []


def test_help_names_groups_keys_and_examples():
    said = text("train")
    for group in compose.groups("train"):
        assert re.search(rf"^  {group} ", said, re.MULTILINE)
    assert "python train.py -m pe=" in said
    assert "train.length=128" in said
    assert max(map(len, said.splitlines())) <= 110
    assert "fixed_targets" in text("eval")


def test_examples_of_the_help_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.txt").write_text("x" * 1000)
    for line in text("train").splitlines():
        if "train.py -m" not in line and (found := re.search(r"train\.py (pe=.*?)(  |$)", line)):
            assert isinstance(config(found[1]), schema.TrainConfig)


def test_nothing_here_imports_torch(tmp_path: Path):
    """--help, --cfg and refusals, in one process that says at the end what it has imported."""
    (tmp_path / "refused.json").write_text(json.dumps([words for words, _ in TRAIN_REFUSED[::5]]))
    script = """
import json, sys
from longrun.config import cli
for words in json.load(open("refused.json")):
    assert cli.guarded(lambda: cli.dispatch("train", "none:main", words.split())) == 2, words
for words in (["--help"], ["--cfg", "job", "pe=alibi"]):
    assert cli.guarded(lambda: cli.dispatch("train", "none:main", words)) == 0, words
slow = {"torch", "datasets", "wandb", "transformers", "pandas", "matplotlib"} & set(sys.modules)
assert not slow, slow
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("words", "code"), [(["--help"], 0), (["pe=rpoe"], 2), (["train.steps=0"], 2), (["-m", "pe=rope,rpoe"], 2)]
)
def test_train_py_answers_in_two_seconds(tmp_path: Path, words: list[str], code: int):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, ROOT / "train.py", *words], cwd=tmp_path, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)  # CPU time: another test may be running beside this one
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("group", ["pe", "positions", "extension"])
def test_a_file_with_another_name_in_it_is_refused_by_its_path(group: str, monkeypatch, tmp_path: Path):
    (tmp_path / group).mkdir()
    (tmp_path / group / "mine.yaml").write_text("name: yours\nscheme: rope\n")
    monkeypatch.setattr(compose, "CONFIGS", tmp_path)
    with pytest.raises(ConfigError, match=rf"configs/{group}/mine.yaml: name is yours.\nWrite name: mine"):
        compose.check_files({group: "mine"})
