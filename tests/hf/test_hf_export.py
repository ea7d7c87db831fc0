"""Our models as folders of transformers: the same logits, the same text, and nothing of ours needed to load them."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from data.corpus import prepare
from data.tokenizers.base import Tokenizer
from data.tokenizers.bpe import train_bpe
from data.tokenizers.byte import ByteTokenizer
from data.tokenizers.load import load_tokenizer
from model import build, load
from model.checkpoint import files as checkpoint
from model.errors import ModelError
from model.extension.base import extended
from model.generate import generate
from model.hf import load_hf, save_hf
from model.hf.remote_code import closure, flat, flattened
from model.pe.registry import names

transformers = pytest.importorskip("transformers")
from scripts import export  # noqa: E402
from scripts.dev.hf_parity import CASES, LIMIT, SIZES, Case, distance, enlarge, ours, outwards, tokens  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
OWN_CODE = [case for case in CASES if not case.config]
GREEDY = {"do_sample": False, "max_new_tokens": 8, "eos_token_id": None, "pad_token_id": 0}


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Copies of the folders' code go to a folder of the tests; transformers looks for it once in a process."""
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    transformers.dynamic_module_utils.HF_MODULES_CACHE = str(tmp_path_factory.mktemp("modules"))


def loaded(folder: Path) -> torch.nn.Module:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()


def written(model: torch.nn.Module, prompt: torch.Tensor) -> torch.Tensor:
    return model.generate(prompt, attention_mask=torch.ones_like(prompt), **GREEDY)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_transformers_computes_the_same_and_it_comes_back_the_same(case: Case, tmp_path: Path) -> None:
    model, theirs, kind = outwards(case, tmp_path / "out")
    own_code = case in OWN_CODE
    assert distance(model, theirs) <= (0 if own_code else LIMIT)
    assert (kind == "longrun") == own_code
    prompt = tokens(12)
    assert torch.equal(written(theirs, prompt), generate(model, prompt, 8, temperature=0))
    back = load_hf(tmp_path / "out")
    assert distance(model, back) == 0
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, back.state_dict()[name]), name


def test_a_model_is_of_a_class_only_if_the_class_computes_it(tmp_path: Path) -> None:
    """A rotation of some channels in a Llama block has no class: Llama's ignores `partial_rotary_factor`."""
    for pe, kind in (
        ("rope_partial", "longrun"),
        ("rope_interleaved", "glm"),
        ({"name": "learned"}, "longrun"),  # GPT-2's table in a Llama block
        ({"name": "schedule", "pattern": ["nope", "rope", "nope"]}, "smollm3"),
        ({"name": "alibi", "slopes": "learned"}, "longrun"),
    ):
        model = build(97, 32, SIZES, pe).eval()
        enlarge(model)
        folder = tmp_path / str(abs(hash(str(pe))))
        assert save_hf(model, folder) == kind
        assert distance(model, loaded(folder), tokens(32)) <= LIMIT


def test_a_plan_for_training_only_does_not_matter_and_one_for_evaluation_does(tmp_path: Path) -> None:
    for positions, kind in (("shape_shift", "llama"), ("randomised_even", "longrun")):
        model = build(97, 32, SIZES, "rope", positions).eval()
        enlarge(model)
        assert save_hf(model, tmp_path / positions) == kind
        assert distance(model, loaded(tmp_path / positions)) <= LIMIT


def test_a_model_that_was_extended_trained_and_extended_again(tmp_path: Path) -> None:
    model = extended(build(97, 32, SIZES, "rope").eval(), "yarn", 64)
    model.set_train_length(64)
    model = extended(model, "ntk", 256)
    enlarge(model)
    assert distance(model, build(**model.config).eval()) > 1e-2  # other weights
    assert save_hf(model, tmp_path / "out") == "longrun"
    assert distance(model, loaded(tmp_path / "out")) == 0
    assert distance(model, load_hf(tmp_path / "out")) == 0
    assert load_hf(tmp_path / "out").train_length == 64


# ---- folders that bring their code


@pytest.fixture(scope="module")
def alibi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "alibi"
    save_hf(ours(OWN_CODE[0]), folder, separator=0)
    return folder


def test_padding_changes_nothing(alibi: Path) -> None:
    theirs, rows = loaded(alibi), [tokens(n)[:1] for n in (5, 9)]
    padded = torch.zeros(2, 9, dtype=torch.long)
    mask = torch.zeros_like(padded)
    for row, text in enumerate(rows):
        padded[row, -text.shape[1] :], mask[row, -text.shape[1] :] = text, 1
    with torch.no_grad():
        together = theirs(padded, attention_mask=mask).logits
    for row, text in enumerate(rows):
        with torch.no_grad():
            alone = theirs(text).logits
        torch.testing.assert_close(together[row, -text.shape[1] :], alone[0], atol=1e-5, rtol=0)
    new = theirs.generate(padded, attention_mask=mask, **GREEDY)[0, 9:]
    assert torch.equal(new, written(theirs, rows[0])[0, 5:])


def test_the_loss_is_ours(alibi: Path) -> None:
    theirs, x = loaded(alibi), tokens(20)
    labels = x.clone()
    labels[:, :5] = -100
    targets = labels[:, 1:]
    expected = load_hf(alibi).loss(x[:, :-1], targets)
    torch.testing.assert_close(theirs(x, labels=labels).loss, expected, atol=1e-5, rtol=0)
    theirs(x, labels=labels).loss.backward()
    assert all(p.grad is not None for p in theirs.parameters())


def test_saved_again_it_still_brings_its_code(alibi: Path, tmp_path: Path) -> None:
    first = loaded(alibi)
    first.save_pretrained(tmp_path / "again")
    assert {path.name for path in alibi.glob("*.py")} <= {path.name for path in (tmp_path / "again").glob("*.py")}
    assert distance(first, loaded(tmp_path / "again")) == 0
    assert distance(first, load_hf(tmp_path / "again")) == 0


def test_two_models_of_different_schemes_in_one_process(alibi: Path, tmp_path: Path) -> None:
    """transformers knows a class by its file: the second model must not get the code of the first."""
    t5 = ours(OWN_CODE[1])
    save_hf(t5, tmp_path / "alibi")  # the same folder name
    assert distance(loaded(alibi), load_hf(alibi)) == 0
    assert distance(loaded(tmp_path / "alibi"), t5) == 0


def test_it_loads_where_longrun_is_not_installed(alibi: Path, tmp_path: Path) -> None:
    asked = f"""
import importlib.util, os, sys
# An editable install of ours counts as absent: neither its finder nor its folder.
sys.meta_path = [f for f in sys.meta_path if "editable" not in str(getattr(f, "__module__", ""))]
sys.path = [p for p in sys.path if not os.path.isfile(os.path.join(p, "train.py"))]
assert importlib.util.find_spec("model") is None
import torch, transformers
model = transformers.AutoModelForCausalLM.from_pretrained({str(alibi)!r}, trust_remote_code=True).eval()
x = torch.randint(97, (2, 48), generator=torch.Generator().manual_seed(2))
print(model(x).logits.double().sum().item())
"""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", asked], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
    )
    with torch.no_grad():
        expected = load_hf(alibi)(tokens()).double().sum().item()
    assert float(done.stdout.split()[-1]) == pytest.approx(expected, abs=1e-3), done.stderr


@pytest.mark.parametrize("name", names())
def test_every_scheme_has_code_that_needs_nothing_else(name: str) -> None:
    """The flat files import each other, torch and the standard library."""
    model = build(97, 32, SIZES | {"layers": 4}, name)
    modules = closure(
        ["transformer", *(type(component).__module__.removeprefix("model.") for component in model.components())]
    )
    assert len(modules) < 40
    for module in modules:
        if module == "registry":
            continue
        for line in flattened(module).splitlines():
            word = line.strip().split(" ")
            if word[0] == "from" and word[1].startswith("."):
                known = [flat(other) for other in modules]
                targets = word[3::3] if word[1] == "." else [word[1].removeprefix(".")]
                assert set(targets) <= set(known), line


# ---- the command


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a checkpoint, as train.py leaves it."""
    text, folder = tmp_path_factory.mktemp("text"), tmp_path_factory.mktemp("runs") / "kerple"
    rng = np.random.default_rng(0)
    for i in range(20):
        (text / f"{i:02}.txt").write_text(" ".join(rng.choice(["one", "two", "three"], 8)))
    options = {
        "name": "tiny", "source": "text", "path": str(text), "subset": None, "split": None, "documents": None,
        "text_field": "text", "separator": None, "pattern": "**/*.txt", "tokenizer": "byte", "vocab_size": 257,
        "valid_fraction": 0.1, "test_fraction": 0.4, "cache": str(tmp_path_factory.mktemp("cache")),
    }  # fmt: skip
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump({"data": options}))
    model = build(257, 48, SIZES, "kerple_log")
    enlarge(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    checkpoint.save(folder / "checkpoints", 7, model, optimizer, {"model": model.config})
    ByteTokenizer().save(folder)
    return folder


def test_the_command_writes_compares_and_says_so(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert export.main([f"run={run}", f"to={tmp_path / 'out'}"]) == 0
    said = capsys.readouterr().out
    assert "with its own code" in said
    assert "logits differ by at most 0.0e+00" in said
    assert "the same greedy text" in said
    assert distance(load(run), load_hf(tmp_path / "out")) == 0
    with pytest.raises(ModelError, match=r"out is not empty"):
        export.main([f"run={run}", f"to={tmp_path / 'out'}"])


def test_a_rotary_model_with_an_extension_becomes_a_llama(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    model = build(257, 48, SIZES, "rope")
    checkpoint.save(
        tmp_path / "run" / "checkpoints", 1, model, torch.optim.SGD(model.parameters()), {"model": model.config}
    )
    ByteTokenizer().save(tmp_path / "run")
    words = [f"run={tmp_path / 'run'}", f"to={tmp_path / 'out'}", "extension=yarn_code", "length=192"]
    assert export.main(words) == 0
    assert "as a llama" in capsys.readouterr().out
    about = json.loads((tmp_path / "out" / "config.json").read_text())
    assert about["rope_scaling"]["factor"] == 4.0
    assert about["max_position_embeddings"] == 192
    assert about["bos_token_id"] == 256


@pytest.mark.parametrize("kind", ["byte", "bpe"])
def test_the_tokenizer_begins_texts_as_our_documents_begin(kind: str, tmp_path: Path) -> None:
    tokenizer: Tokenizer = ByteTokenizer() if kind == "byte" else train_bpe(["one two three, näive\n" * 9], 300)
    tokenizer.export(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = "one naïve two\n  three"
    assert theirs(text).input_ids == [tokenizer.separator, *tokenizer.encode(text).tolist()]
    assert theirs.decode(tokenizer.encode(text).tolist()) == text
    assert (theirs.bos_token_id, theirs.eos_token_id) == (tokenizer.separator, tokenizer.separator)
    again = load_tokenizer(tmp_path)
    assert again.encode(text).tolist() == tokenizer.encode(text).tolist()
    assert again.separator == tokenizer.separator


def test_lm_eval_measures_what_we_do(run: Path, tmp_path: Path) -> None:
    """Bits per byte of whole documents, offline, with the task that the export writes."""
    lm_eval = pytest.importorskip("lm_eval")
    from lm_eval.tasks import TaskManager

    folder = tmp_path / "kerple"
    export.main([f"run={run}", f"to={folder}", "lm_eval=6"])
    manager = TaskManager(include_path=str(folder / "lm_eval"), include_defaults=False)
    arguments = f"pretrained={folder},trust_remote_code=True,add_bos_token=False,dtype=float32"
    found = lm_eval.simple_evaluate(
        "hf", model_args=arguments, tasks=["longrun_tiny"], task_manager=manager, device="cpu"
    )
    model, tokenizer = load(run), load_tokenizer(run)
    data = prepare(yaml.safe_load((run / "config.yaml").read_text())["data"])
    tokens, offsets = data.tokens("test"), data.documents("test")
    nats = size = 0.0
    for start, stop in itertools.pairwise(offsets[:7]):
        document = torch.from_numpy(np.asarray(tokens[start:stop]).astype(np.int64))[None]
        nats += model.nll(document[:, :-1], document[:, 1:]).sum().item()
        size += tokenizer.token_bytes[np.asarray(tokens[start:stop])].sum()
    measured = found["results"]["longrun_tiny"]["bits_per_byte,none"]
    assert measured == pytest.approx(nats / np.log(2) / size, rel=1e-4)
