"""Tasks: every answer against an independent computation, batches as a function of (seed, step), and exact match as
what greedy decoding would write."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from tiny_configs import ROOT, config

from data.dataset import prepare
from data.tasks.base import ALPHABET
from data.tasks.dataset import TaskDataset
from data.tasks.registry import tasks
from data.tokenizers.alphabet import AlphabetTokenizer
from data.tokenizers.load import load_tokenizer
from longrun.base.errors import ConfigError, DataError
from longrun.evaluation import evaluate
from longrun.evaluation.protocols.exact_match import ExactMatch
from model import build

NAMES = tasks.names()


@cache
def questions(task: str, **options) -> TaskDataset:
    words = " ".join([f"data={task}", *(f"data.{key}={value}" for key, value in options.items())])
    found = prepare(asdict(config(words).data))
    assert isinstance(found, TaskDataset)
    return found


# Each answer computed again, by other means than the task's.


def bubble(text: str) -> str:
    letters = list(text)
    for end in range(len(letters), 1, -1):
        for i in range(end - 1):
            if ord(letters[i]) > ord(letters[i + 1]):
                letters[i], letters[i + 1] = letters[i + 1], letters[i]
    return "".join(letters)


def columns(a: str, b: str, sign: int) -> str:
    """School arithmetic on columns of digits, without a carry: values first, then made digits."""
    pairs = enumerate(zip(a[::-1], b[::-1], strict=True))
    total = sum((ord(x) - 48 + sign * (ord(y) - 48)) * 10**i for i, (x, y) in pairs)
    width = len(a) + (sign > 0)
    return "".join(str(total // 10**i % 10) for i in reversed(range(width)))


def satisfied(question: str) -> str:
    """The only values of all names under which every clause holds."""
    clauses, last = question.split("?")
    clauses = clauses.split(";")
    names = sorted(clause[0] for clause in clauses)
    solutions = []
    for signs in product((1, -1), repeat=len(names)):
        value = dict(zip(names, signs, strict=True)) | {"1": 1}
        if all(value[c[0]] == (1 if c[1] == "+" else -1) * value[c[2]] for c in clauses):
            solutions.append(value[last])
    (only,) = solutions
    return "+" if only > 0 else "-"


def rewritten(command: str) -> str:
    """SCAN's meaning by rewriting text: first words, then times, then the order of "after"."""
    verb = {"w": "W", "l": "K", "r": "N", "j": "J", "t": ""}
    side = {"<": "L", ">": "R"}
    parts = []
    for conjunct in command.split("&"):
        phrases = []
        for phrase in conjunct.split("~"):
            act, manner, to, times = re.fullmatch(r"([wlrjt])([oa]?)([<>]?)([23]?)", phrase).groups()
            one = {"": side.get(to, "") + verb[act], "o": 2 * side.get(to, "") + verb[act]}.get(manner)
            one = 4 * (side[to] + verb[act]) if manner == "a" else one
            phrases.insert(0, one * int(times or 1))
        parts += phrases
    return "".join(parts)


BRUTE = {
    "copy": lambda q: "".join(map(str, q)),
    "reverse": lambda q: "".join(q[len(q) - 1 - i] for i in range(len(q))),
    "sort": lambda q: bubble(q.swapcase()).swapcase(),  # a to z before A to Z
    "addition": lambda q: columns(*q.split("+"), 1),
    "subtraction": lambda q: columns(*q.split("-"), -1),
    "parity": lambda q: str(int(q, 2).bit_count() & 1),
    "modular_sum": lambda q: str(sum(int(d) * n for d, n in Counter(q).items()) % 10),
    "polynomial": lambda q: str(sum(int(c) * int(q[0]) ** i for i, c in enumerate(reversed(q[2:]))) % 10),
    "recall": lambda q: re.search(rf"(?:^|,){q[-2:]}(\d)", q)[1],
    "lego": satisfied,
    "scan": rewritten,
}


def test_every_task_has_a_brute_force():
    assert sorted(BRUTE) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_right_and_in_the_alphabet(name: str):
    data, rng = questions(name), np.random.default_rng(3)
    seen = set()
    for size in [1, 2, 3, *range(4, 12)] * 4:
        question = data.task.question(size, rng)
        answer = data.task.answer(question)
        assert answer == BRUTE[name](question), question
        assert set(question + answer) <= set(ALPHABET)
        assert data.task.max_characters(size) >= len(question) + len(answer)
        seen.add(answer)
    assert len(seen) > 1


EXAMPLES = [
    ("copy", "abca", "abca"), ("reverse", "abca", "acba"), ("sort", "cabb", "abbc"), ("addition", "457+068", "0525"),
    ("subtraction", "457-068", "389"), ("parity", "1101", "1"), ("modular_sum", "275", "4"),
    ("polynomial", "3:275", "4"), ("recall", "ab3,cd7,ee1?cd", "7"), ("lego", "b-a;c+b;a+1?c", "-"),
    ("scan", "jo<&w2", "LLJWW"), ("scan", "w~ja>&t<3", "RJRJRJRJWLLL"),
]  # fmt: skip
STEPS = [
    ("addition", "457+068", "512150|0525"), ("subtraction", "457-068", "918130|389"), ("parity", "1101", "1001|1"),
    ("modular_sum", "275", "294|4"), ("polynomial", "3:275", "234|4"), ("lego", "b-a;c+b;a+1?c", "a+b-c-|-"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "question", "answer"), EXAMPLES)
def test_the_examples_of_the_docstrings(name: str, question: str, answer: str):
    task = questions(name).task
    assert task.completion(question) == answer
    assert question in (type(task).__doc__ or "") or name == "scan"


@pytest.mark.parametrize(("name", "question", "written"), STEPS)
def test_a_scratchpad_ends_with_the_answer(name: str, question: str, written: str):
    data = questions(name, scratchpad="true")
    assert data.task.completion(question) == written
    rng = np.random.default_rng(0)
    for size in (1, 4, 9):
        asked = data.task.question(size, rng)
        assert data.task.completion(asked).split("|")[1] == questions(name).task.answer(asked)
        assert len(asked) + len(data.task.completion(asked)) == data.task.max_characters(size)


@pytest.mark.parametrize("name", ["addition", "subtraction"])
def test_backward_numbers_are_the_same_numbers(name: str):
    data, rng = questions(name, backward="true"), np.random.default_rng(1)
    sign = {"addition": "+", "subtraction": "-"}[name]
    for _ in range(20):
        question = data.task.question(6, rng)
        forward = sign.join(number[::-1] for number in question.split(sign))
        assert data.task.answer(question)[::-1] == BRUTE[name](forward)


def decoded(data: TaskDataset, inputs: torch.Tensor, targets: torch.Tensor) -> list[tuple[str, str]]:
    """What each row feeds up to the answer, and what is scored, as text."""
    found = []
    for x, y in zip(inputs.tolist(), targets.tolist(), strict=True):
        first = next(i for i, t in enumerate(y) if t != -100)
        scored = [t for t in y if t != -100]
        assert y[first : first + len(scored)] == scored  # in one piece
        assert x[first + 1 : first + len(scored)] == scored[:-1]  # and fed back
        assert (x[0], scored[-1]) == (data.tokenizer.separator,) * 2
        found.append((data.tokenizer.decode(x[1 : first + 1]), data.tokenizer.decode(scored[:-1])))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_batches_hold_questions_of_all_sizes_and_score_the_answer_alone(name: str):
    data = questions(name)
    batches = data.batches(40, 64, seed=5)
    inputs, targets = batches.batch(3)
    assert inputs.shape == targets.shape == (64, 40)
    lengths = []
    for question, answer in decoded(data, inputs, targets):
        assert question[-1] == "="
        assert answer == BRUTE[name](question[:-1])
        lengths.append(len(question))
    assert min(lengths) < 12
    assert max(lengths) > data.largest(40) - 2
    again = data.batches(40, 64, seed=5).batch(3)
    assert torch.equal(inputs, again[0])
    assert torch.equal(targets, again[1])
    assert not torch.equal(inputs, batches.batch(4)[0])
    assert not torch.equal(inputs, data.batches(40, 64, seed=6).batch(3)[0])


def test_ranks_share_a_batch():
    batches = questions("sort").batches(30, 12, seed=0)
    whole = batches.batch(7)[0]
    parts = [batches.batch(7, rank, 3)[0] for rank in range(3)]
    assert torch.equal(torch.stack(parts, dim=1).flatten(0, 1), whole)
    with pytest.raises(DataError, match="multiple of 5"):
        batches.batch(7, 0, 5)


@pytest.mark.parametrize("name", NAMES)
def test_the_largest_question_fits_and_the_next_does_not(name: str):
    data = questions(name)
    for length in (12, 40, 77):
        size = data.largest(length)
        feeds = [data.test_questions(length, 20)[1].windows.feed_lengths.max()]
        assert max(feeds) <= length
        assert data.task.max_characters(size) + 2 <= length < data.task.max_characters(size + 1) + 2


def test_tests_are_the_same_for_every_run_and_none_is_trained_on():
    data = questions("copy")
    size, selection = data.test_questions(60, 50)
    assert np.array_equal(selection.tokens, questions("copy").test_questions(60, 50)[1].tokens)
    assert size == 29
    assert size > data.largest(20)  # longer than anything a run of train.length=20 has seen
    texts = {data.tokenizer.decode(d) for d in np.split(selection.tokens, selection.offsets[1:-1])}
    assert len(texts) == 50


def test_what_cannot_be_asked_is_refused():
    with pytest.raises(DataError, match=r"train\.length=22"):
        questions("copy").batches(3, 4, 0)
    with pytest.raises(DataError, match="up to size 52"):
        questions("lego").test_questions(1000, 5)
    with pytest.raises(DataError, match="not in this vocabulary"):
        AlphabetTokenizer(ALPHABET).encode("a%b")
    with pytest.raises(ConfigError, match=r"data\.scratchpad"):
        config("data=copy data.scratchpad=true")
    with pytest.raises(ConfigError, match="at most 10"):
        config("data=modular_sum data.modulus=11")


def test_a_task_has_a_vocabulary_of_its_own(tmp_path):
    data = questions("addition")
    data.tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.digest == data.tokenizer.digest
    assert loaded.decode(loaded.encode(ALPHABET)) == ALPHABET
    with pytest.raises(DataError, match="trained on text"):
        prepare(asdict(config("data=copy").data), tokenizer=load_tokenizer(byte_folder(tmp_path)))
    with pytest.raises(DataError, match="trained on a task"):
        prepare(asdict(config("data=stdlib").data), tokenizer=loaded)


def byte_folder(folder):
    from data.tokenizers.byte import ByteTokenizer

    ByteTokenizer().save(folder)
    return folder


def test_fingerprints_tell_tasks_and_options_apart():
    prints = [questions(name).fingerprint for name in NAMES]
    prints += [questions("copy", symbols=5).fingerprint, questions("parity", scratchpad="true").fingerprint]
    assert len(set(prints)) == len(prints)
    assert questions("copy").fingerprint == questions("copy", name="other").fingerprint


def small(pe: str, seed: int = 0):
    torch.manual_seed(seed)
    return build(len(ALPHABET) + 1, 16, {"layers": 2, "width": 32, "heads": 2}, pe)


@pytest.fixture(scope="module")
def half_trained():
    """Models that answer some questions and not others: only there do teacher forcing and decoding have to agree."""
    found = {}
    data = questions("copy", symbols=3)
    for pe in ("rope", "t5"):
        model = small(pe)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        batches = data.batches(16, 64, seed=0)
        for step in range(120):
            model.loss(*batches.batch(step)).backward()
            optimizer.step()
            optimizer.zero_grad()
        found[pe] = model.eval()
    return data, found


@pytest.mark.parametrize("pe", ["rope", "t5"])
def test_exact_match_is_what_greedy_decoding_writes(half_trained, pe: str):
    data, models = half_trained
    protocol = ExactMatch(trials=60, generate=True)
    record, table = evaluate(models[pe], data, protocol, [6, 8, 16, 24], precision="fp32")
    assert record["protocol"] == "exact_match"
    assert [row["size"] for row in record["rows"]] == [2, 3, 7, 11]
    shares = [row["exact"] for row in record["rows"]]
    assert any(0 < share < 1 for share in shares), shares
    for row in record["rows"]:
        assert row["matches"] == row["generated_matches"]
        assert row["exact"] == row["matches"] / row["trials"]
    frame = table.to_pandas()
    for row in record["rows"]:  # and it can be recomputed from the tokens
        part = frame[frame.length == row["length"]]
        assert part.groupby("document").hit.all().sum() == row["matches"]
        assert len(part) == row["trials"] * (row["size"] + 1)


def test_protocols_refuse_the_other_kind_of_data(half_trained):
    data, models = half_trained
    with pytest.raises(DataError, match="protocol=exact_match"):
        evaluate(models["rope"], data, "sliding", [16])
    with pytest.raises(DataError, match="reads documents"):
        evaluate(models["rope"], data, "needle", [16])


def test_a_length_without_questions_is_a_row_without_numbers():
    data = questions("lego")
    rows = evaluate(small("nope"), data, ExactMatch(trials=20), [30, 1000])[0]["rows"]
    assert ["refused" in row for row in rows] == [False, True]


def test_a_task_is_measured_its_own_way_by_default():
    found = config("data=copy train.length=20").eval
    assert found.protocol == "exact_match"
    assert found.resolved_lengths(20) == [10, 20, 25, 30, 40, 60, 80, 100]
    assert config("data=stdlib").eval.protocol == "fixed_targets"


TINY = (
    "data=addition data.scratchpad=true pe=t5 model.layers=1 model.width=32 model.heads=2 train.length=24 "
    "train.steps=6 train.batch=8 train.log_every=1 train.valid_every=3 train.valid_windows=16 train.precision=fp32 "
    "train.threads=1 tracker=off eval.ratios=[1,2] eval.trials=8 eval.control=false"
)


def trained(root, words: str = "") -> tuple[list[dict], dict]:
    """metrics.jsonl without what a clock decided, and the evaluation."""
    import train

    made = config(f"{TINY} root={root} {words}")
    assert train.main(made) == 0
    (folder,) = (path.parent for path in root.glob("*/done"))
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    rows = [{k: v for k, v in json.loads(line).items() if k != "tokens_per_s"} for line in lines]
    return rows, json.loads((folder / "eval" / "exact_match.json").read_text())


def test_a_task_is_trained_end_to_end_and_a_batch_may_be_cut(tmp_path):
    """The loss is a mean over scored tokens, whose number differs from row to row."""
    rows, record = trained(tmp_path / "whole")
    cut, _ = trained(tmp_path / "cut", "train.micro_batch=2")
    assert len(rows) == 6 + 2
    assert rows[-1].keys() >= {"valid_loss", "valid_bits_per_byte", "valid_exact"}
    assert [row["trials"] for row in record["rows"]] == [8, 8]
    for a, b in zip(rows, cut, strict=True):
        assert a == pytest.approx(b, abs=1e-5)


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path):
    rows, record = trained(tmp_path / "one")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    command = [*torchrun, str(ROOT / "train.py"), *TINY.split(), f"root={tmp_path / 'two'}"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=240, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (path.parent for path in (tmp_path / "two").glob("*/done"))
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    for a, line in zip(rows, lines, strict=True):
        b = {k: v for k, v in json.loads(line).items() if k != "tokens_per_s"}
        assert a == pytest.approx(b, abs=1e-5)
    assert json.loads((folder / "eval" / "exact_match.json").read_text())["targets_hash"] == record["targets_hash"]
